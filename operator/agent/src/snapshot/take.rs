//! From an Instance's root disk to an image in the cache.

use std::{path::Path, time::Duration};

use tokio::time::{Instant, sleep};
use uuid::Uuid;
use virga_core::instance::{Domain, Power, Snapshotting};
use virga_crds::{Image, Quiesce};
use virga_hypervisor::{Backup, Kind};
use virga_images::{
    Format,
    cache::{Entry, allocated},
};
use virga_runtime::class::chain;

use super::{
    clean_up::{clean_up, thaw},
    error::Error,
    note::{self, Frozen, Note},
    taking::Taking,
};
use crate::{
    domain,
    host::{CHANGE, Host},
};

/// How soon a copy is asked after: that of a small disk takes moments. Each pause is twice the one before.
const LOOK_FIRST: Duration = Duration::from_millis(10);
/// How often one that takes long is asked after.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a copy may take.
const LONGEST: Duration = Duration::from_hours(6);

/// Makes the image. Nothing that an earlier attempt left is relied on, but an image that it brought to its end.
pub async fn take(host: &Host, image: &Image, uid: &str, instance: Uuid, taking: &Taking) -> Result<Entry, Error> {
    if let Some(entry) = host.images.adopted(uid) {
        return Ok(entry);
    }
    clean_up(host, uid).await?;
    let _slot = taking.slot().await;
    let files = host.layout.instance(instance);
    let (disk, target) = (files.root_disk(), host.layout.snapshot(uid));
    if tokio::fs::symlink_metadata(&disk).await.is_err() {
        return Err(Error::NotThere(format!("the root disk is not on {}", host.node)));
    }
    // It may be all that the disk and the image below it have.
    host.images.check_room(allocated(&disk) + allocated(&files.base()))?;
    host.images.progress(uid, Some(0));
    let power = match domain::look(host, instance).await {
        Domain::Defined(power) => Some(power),
        Domain::Absent => None,
        Domain::Unreachable(why) | Domain::Foreign(why) => return Err(Error::NotThere(why)),
    };
    match power {
        Some(Power::Saving) => return Err(Error::NotThere("the guest's memory is being saved".into())),
        None | Some(Power::Off(_) | Power::Saved | Power::BrokenSave) => {
            taking.set(Snapshotting::Copying);
            copy(host, instance, &disk, &target).await?;
            taking.set(Snapshotting::Live);
        }
        Some(power) => {
            let quiesce = image.spec.source.instance.as_ref().map(|source| source.quiesce);
            let from = Source {
                instance,
                disk: &disk,
                runs: power == Power::Running,
                quiesce: quiesce.unwrap_or_default(),
            };
            live(host, uid, from, &target).await?;
        }
    }
    own(&target, &host.layout.snapshots()).map_err(Error::io("taking a copy over"))?;
    let entry = host
        .carry_out("AdoptImage", host.images.adopt(uid, target.clone()))
        .await?;
    clean_up(host, uid).await?;
    Ok(entry)
}

/// Makes a file ours: QEMU may have made it as its own user, who is to write to it no more.
fn own(file: &Path, directory: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let ours = std::fs::metadata(directory)?;
    chown(file, Some(ours.uid()), Some(ours.gid()))
}

/// Copies the disk of a guest that is off. It is not started meanwhile, and QEMU's own locks on the file see to it that
/// it can't be.
async fn copy(host: &Host, instance: Uuid, disk: &Path, target: &Path) -> Result<(), Error> {
    match domain::look(host, instance).await {
        Domain::Absent | Domain::Defined(Power::Off(_) | Power::Saved | Power::BrokenSave) => {}
        _ => return Err(Error::NotThere("the guest was started just now".into())),
    }
    let size = host.disks.info(disk, Format::Qcow2).await?.virtual_size;
    let copied = host.disks.create_copy(disk, Format::Qcow2, target, Format::Qcow2, size);
    host.carry_out("CopyDisk", copied).await?;
    Ok(())
}

/// A guest that has a process.
#[derive(Clone, Copy)]
struct Source<'a> {
    instance: Uuid,
    disk: &'a Path,
    runs: bool,
    quiesce: Quiesce,
}

/// Has QEMU copy the disk of a guest that runs.
async fn live(host: &Host, image: &str, from: Source<'_>, target: &Path) -> Result<(), Error> {
    let instance = from.instance;
    // Processors that stand still answer nothing, and write nothing.
    let asks = from.quiesce == Quiesce::Required || from.quiesce == Quiesce::WhenPossible && from.runs;
    let path = host.layout.snapshot_note(image);
    let asked = if asks { Frozen::Perhaps } else { Frozen::No };
    // Noted before anything is done: whoever comes after a crash lets the guest go on.
    noted(&path, instance, asked).await?;
    let frozen = if asks { freeze(host, from, &path).await? } else { asked };
    let begins = begin(host, from, target).await;
    thaw(host, instance, frozen).await?;
    if asks {
        noted(&path, instance, Frozen::No).await?;
    }
    begins?;
    let (end, mut pause) = (Instant::now() + LONGEST, LOOK_FIRST);
    loop {
        let state = host
            .read(instance, move |hypervisor| hypervisor.backup(instance))
            .await?;
        match state {
            Backup::Finished => return Ok(()),
            Backup::Failed(why) => return Err(Error::Copy(why)),
            Backup::None => return Err(Error::Copy("libvirt knows nothing of it any more".into())),
            Backup::Running { .. } if Instant::now() >= end => return Err(Error::TooLong(LONGEST)),
            Backup::Running { .. } => host.images.progress(image, state.percent()),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_EVERY);
    }
}

async fn noted(path: &Path, instance: Uuid, frozen: Frozen) -> Result<(), Error> {
    let noted = note::write(path, Note::new(instance, frozen)).await;
    noted.map_err(Error::io("noting a copy"))
}

/// Makes the file systems stand still, if that can be had.
async fn freeze(host: &Host, from: Source<'_>, path: &Path) -> Result<Frozen, Error> {
    let instance = from.instance;
    let frozen = host
        .calls
        .guest(instance, CHANGE, move |hypervisor| hypervisor.freeze(instance));
    match host.carry_out("Freeze", frozen).await {
        Ok(()) => {
            noted(path, instance, Frozen::Yes).await?;
            Ok(Frozen::Yes)
        }
        Err(error) if from.quiesce == Quiesce::Required => Err(Error::Quiesce(error)),
        Err(error) => {
            tracing::info!(%instance, error = chain(&error), "copied as after a power cut");
            let was_asked = !matches!(error.kind(), Kind::InvalidState | Kind::Unsupported);
            Ok(if was_asked { Frozen::Perhaps } else { Frozen::No })
        }
    }
}

async fn begin(host: &Host, from: Source<'_>, target: &Path) -> Result<(), Error> {
    let instance = from.instance;
    let (disk, target) = (from.disk.to_owned(), target.to_owned());
    let begun = host.change(instance, move |hypervisor| {
        hypervisor.begin_backup(instance, &disk, &target)
    });
    host.carry_out("BeginBackup", begun).await?;
    Ok(())
}
