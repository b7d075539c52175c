//! The fake's guest agent, and its copies of disks: real files, so that what is made of them can be looked at.

use std::path::{Path, PathBuf};
use std::process::Command;

use uuid::Uuid;

use super::{Fake, FakeDomain};
use crate::domain::Backup;
use crate::error::{Error, Result};

/// What a domain has of a copy and of its guest's file systems.
#[derive(Debug)]
pub struct FakeBackup {
    answers: bool,
    frozen: bool,
    copy: Option<UnderWay>,
    /// How often a copy is asked after before it is whole.
    rounds: u64,
    last: Backup,
}

#[derive(Debug)]
struct UnderWay {
    disk: PathBuf,
    target: PathBuf,
    asked: u64,
}

impl Default for FakeBackup {
    fn default() -> Self {
        FakeBackup {
            answers: true,
            frozen: false,
            copy: None,
            rounds: 2,
            last: Backup::None,
        }
    }
}

impl FakeBackup {
    /// The guest's process is gone, and with it all that was under way.
    pub fn end(&mut self) {
        self.frozen = false;
        if self.copy.take().is_some() {
            self.last = Backup::Failed("the domain was shut off".to_owned());
        }
    }
}

impl Fake {
    /// Whether a guest agent answers. One does unless told otherwise.
    pub fn set_guest_agent(&self, uuid: Uuid, answers: bool) {
        if let Some(domain) = self.lock().domains.get_mut(&uuid) {
            domain.backup.answers = answers;
        }
    }

    /// Whether the guest's file systems stand still.
    pub fn is_frozen(&self, uuid: Uuid) -> bool {
        let state = self.lock();
        state.domains.get(&uuid).is_some_and(|domain| domain.backup.frozen)
    }

    /// Whether a disk of the guest is being copied.
    pub fn is_backed_up(&self, uuid: Uuid) -> bool {
        let state = self.lock();
        state
            .domains
            .get(&uuid)
            .is_some_and(|domain| domain.backup.copy.is_some())
    }

    /// How often a copy is asked after before it is whole: twice unless told otherwise.
    pub fn set_backup_rounds(&self, uuid: Uuid, rounds: u64) {
        if let Some(domain) = self.lock().domains.get_mut(&uuid) {
            domain.backup.rounds = rounds;
        }
    }
}

impl FakeDomain {
    pub fn freeze(&mut self) -> Result<()> {
        let doing = format!("freezing the file systems of domain {}", self.config.uuid);
        let backup = &mut self.active("freezing the file systems of")?.backup;
        if !backup.answers {
            return Err(Error::invalid_state(
                doing,
                "Guest agent is not responding: QEMU guest agent is not connected",
            ));
        }
        backup.frozen = true;
        Ok(())
    }

    pub fn thaw(&mut self) {
        self.backup.frozen = false;
    }

    pub fn begin_backup(&mut self, disk: &Path, target: &Path) -> Result<()> {
        let doing = format!("copying a disk of domain {}", self.config.uuid);
        let domain = self.active("copying a disk of")?;
        let spec = domain.live.as_ref().unwrap_or(&domain.config);
        if !spec.disks.iter().any(|known| known.path == disk) {
            return Err(Error::Invalid {
                doing,
                message: format!("it has no disk {}", disk.display()),
            });
        }
        if domain.backup.copy.is_some() {
            return Err(Error::invalid_state(doing, "another domain backup is active"));
        }
        if target.exists() {
            return Err(Error::failed(doing, "the target exists"));
        }
        let file = std::fs::File::create_new(target);
        file.map_err(|error| Error::failed(doing, &error.to_string()))?;
        domain.backup.copy = Some(UnderWay {
            disk: disk.to_owned(),
            target: target.to_owned(),
            asked: 0,
        });
        Ok(())
    }

    pub fn backup(&mut self) -> Backup {
        let rounds = self.backup.rounds;
        let Some(copy) = &mut self.backup.copy else {
            return self.backup.last.clone();
        };
        copy.asked += 1;
        if copy.asked <= rounds {
            return Backup::Running {
                done: copy.asked - 1,
                total: rounds,
            };
        }
        let made = Command::new("qemu-img")
            .args(["convert", "-q", "-U", "-f", "qcow2", "-O", "qcow2"])
            .args([&copy.disk, &copy.target])
            .status();
        self.backup.copy = None;
        self.backup.last = match made {
            Ok(status) if status.success() => Backup::Finished,
            other => Backup::Failed(format!("qemu-img: {other:?}")),
        };
        self.backup.last.clone()
    }

    pub fn abort_backup(&mut self) {
        if self.backup.copy.take().is_some() {
            self.backup.last = Backup::Failed("the copy was ended".to_owned());
        }
    }
}
