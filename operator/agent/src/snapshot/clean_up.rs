//! What is left of a copy that did not come to its end, and how is it put right?

use std::{path::Path, time::Duration};

use tokio::time::{Instant, sleep};
use uuid::Uuid;
use virga_hypervisor::{Backup, Kind};
use virga_runtime::class::chain;

use super::{
    error::Error,
    note::{self, Frozen},
};
use crate::host::{CHANGE, Host};

/// How long QEMU may take to give a copy up.
const GIVE_UP: Duration = Duration::from_secs(30);
/// How often a guest is asked to go on: each time takes up to 20 s.
const THAWS: u32 = 3;
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How often it is tried anew after a restart: libvirt may be away.
const AGAIN: Duration = Duration::from_secs(5);

/// Puts right what all copies of an earlier process left, however long libvirt is away.
pub async fn after_restart(host: &Host) {
    let mut left = match left(&host.layout.snapshots()).await {
        Ok(left) => left,
        Err(error) => {
            tracing::error!(error = chain(&error), "looking for copies that were cut short");
            return;
        }
    };
    while !left.is_empty() {
        let mut later = Vec::new();
        for image in left {
            if let Err(error) = clean_up(host, &image).await {
                tracing::warn!(image, error = chain(&error), "putting right what a copy left");
                later.push(image);
            }
        }
        left = later;
        if !left.is_empty() {
            sleep(AGAIN).await;
        }
    }
}

/// The Images of which there is a note or a file.
async fn left(directory: &Path) -> Result<Vec<String>, Error> {
    let read = Error::io("reading the directory of copies");
    let directory = directory.to_owned();
    let names = tokio::task::spawn_blocking(move || -> std::io::Result<Vec<String>> {
        let mut images = Vec::new();
        for file in std::fs::read_dir(directory)? {
            let path = file?.path();
            let ours = path.extension().is_some_and(|kind| kind == "json" || kind == "qcow2");
            let image = path.file_stem().and_then(|stem| stem.to_str());
            match image {
                Some(image) if ours => images.push(image.to_owned()),
                // What a crash left of a file that was being made.
                _ => std::fs::remove_file(&path)?,
            }
        }
        images.sort_unstable();
        images.dedup();
        Ok(images)
    });
    names
        .await
        .unwrap_or_else(|stopped| Err(std::io::Error::other(stopped)))
        .map_err(read)
}

/// Lets the guest go on, ends the copy, and removes its file and the note. Fine when there is nothing to put right.
pub async fn clean_up(host: &Host, image: &str) -> Result<(), Error> {
    let path = host.layout.snapshot_note(image);
    let noted = note::read(&path)
        .await
        .map_err(Error::io("reading the note of a copy"))?;
    if let Some(noted) = noted {
        thaw(host, noted.instance(), noted.frozen).await?;
        abort(host, noted.instance()).await?;
    }
    for file in [host.layout.snapshot(image), path] {
        match tokio::fs::remove_file(file).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("removing what is left of a copy")(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Lets the guest's file systems go on. An agent that never said that they stand still may not be there at all: it is
/// asked a few times.
pub async fn thaw(host: &Host, instance: Uuid, frozen: Frozen) -> Result<(), Error> {
    if frozen == Frozen::No {
        return Ok(());
    }
    let mut left = THAWS;
    loop {
        let thawed = host
            .calls
            .guest(instance, CHANGE, move |hypervisor| hypervisor.thaw(instance));
        left -= 1;
        match unless_gone(host.carry_out("Thaw", thawed).await) {
            Ok(_) => return Ok(()),
            Err(_) if left > 0 => sleep(LOOK_AGAIN).await,
            Err(error) if frozen == Frozen::Perhaps && !is_away(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether libvirt could not be asked at all.
fn is_away(error: &virga_hypervisor::Error) -> bool {
    matches!(error.kind(), Kind::Unavailable | Kind::Timeout)
}

async fn abort(host: &Host, instance: Uuid) -> Result<(), Error> {
    let aborted = host.change(instance, move |hypervisor| hypervisor.abort_backup(instance));
    unless_gone(host.carry_out("AbortBackup", aborted).await)?;
    let end = Instant::now() + GIVE_UP;
    loop {
        let asked = host.read(instance, move |hypervisor| hypervisor.backup(instance)).await;
        match unless_gone(asked)? {
            Some(Backup::Running { .. }) if Instant::now() < end => sleep(LOOK_AGAIN).await,
            Some(Backup::Running { .. }) => return Err(Error::Copy("it can't be ended".into())),
            _ => return Ok(()),
        }
    }
}

/// A domain that is gone, or was never ours, has nothing under way for us.
fn unless_gone<T>(result: virga_hypervisor::Result<T>) -> Result<Option<T>, virga_hypervisor::Error> {
    match result {
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Foreign | Kind::Unsupported) => Ok(None),
        result => result.map(Some),
    }
}
