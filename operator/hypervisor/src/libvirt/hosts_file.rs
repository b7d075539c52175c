//! Where are the DHCP hosts of a network that are not in libvirt's XML?

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::error::{Error, Result};

/// dnsmasq reads the files as a user of its own: libvirt's, or `nobody`.
const FOR_ALL_TO_READ: u32 = 0o644;
const FOR_ALL_TO_ENTER: u32 = 0o755;

/// The directory of hosts files; none: hosts are in libvirt's XML.
#[derive(Debug)]
pub(super) struct HostsFiles {
    directory: Option<PathBuf>,
}

impl HostsFiles {
    /// libvirt writes the path into dnsmasq's configuration as it is, so it must be a plain one.
    pub fn new(directory: Option<PathBuf>) -> Result<Self> {
        let plain = |path: &Path| {
            path.is_absolute()
                && path
                    .to_str()
                    .is_some_and(|text| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b)))
        };
        match directory {
            Some(path) if !plain(&path) => Err(Error::Invalid {
                doing: "setting up libvirt".to_owned(),
                message: format!(
                    "the directory for networks {:?} must be absolute, of letters, digits, '/', '.', '_' and '-'",
                    path.to_string_lossy()
                ),
            }),
            directory => Ok(HostsFiles { directory }),
        }
    }

    /// A network's file, which may not be there yet.
    pub fn of(&self, network: Uuid) -> Option<HostsFile> {
        self.directory.as_ref().map(|directory| HostsFile {
            path: directory.join(format!("{network}.hosts")),
        })
    }
}

/// A network's hosts file.
#[derive(Debug)]
pub(super) struct HostsFile {
    path: PathBuf,
}

impl HostsFile {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `None` when there is none.
    pub fn read(&self) -> Result<Option<String>> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("reading", &error)),
        }
    }

    /// Replaces it whole: dnsmasq, which may read at any time, sees the old or the new one. Not synced to the disk: after
    /// a crash of the host no network runs, and before one is started its file is looked at.
    pub fn write(&self, text: &str) -> Result<()> {
        let failed = |error: &io::Error| self.failed("writing", error);
        if let Some(directory) = self.path.parent() {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(FOR_ALL_TO_ENTER);
            builder.create(directory).map_err(|error| failed(&error))?;
        }
        // dnsmasq would only log that it can't read, and guests would get no address.
        if let Some(closed) = self.path.ancestors().skip(1).find(|directory| is_closed(directory)) {
            return Err(Error::Failed {
                doing: format!("writing {}", self.path.display()),
                message: format!(
                    "dnsmasq can't read there: let other users enter {} (chmod o+x)",
                    closed.display()
                ),
            });
        }
        self.replace(text).map_err(|error| failed(&error))
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        let new = self.path.with_extension("hosts.new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FOR_ALL_TO_READ)
            .open(&new)?;
        // Whatever the umask is.
        file.set_permissions(Permissions::from_mode(FOR_ALL_TO_READ))?;
        file.write_all(text.as_bytes())?;
        fs::rename(&new, &self.path)
    }

    /// Removes it, and what a write left that was broken off.
    pub fn remove(&self) -> Result<()> {
        for path in [&self.path.with_extension("hosts.new"), &self.path] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(self.failed("removing", &error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn failed(&self, verb: &str, error: &io::Error) -> Error {
        Error::Failed {
            doing: format!("{verb} {}", self.path.display()),
            message: error.to_string(),
        }
    }
}

/// Whether users other than its owner and group can't enter a directory.
fn is_closed(directory: &Path) -> bool {
    fs::metadata(directory).is_ok_and(|data| data.permissions().mode() & 0o001 == 0)
}
