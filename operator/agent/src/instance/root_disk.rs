//! The disks that an Instance boots from: made, exchanged, removed. Each is an overlay over a cached image, with a link to
//! that image beside it.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use virga_crds::Bytes;
use virga_hypervisor::{DiskFormat, DiskLayer};
use virga_images::{Format, disk};
use virga_runtime::class::chain;

use crate::{effect::Error, host::Host, layout::InstanceFiles, removal::remove_file};

/// Makes the root disk.
pub(super) async fn create(host: &Host, files: &InstanceFiles, image: &str, size: Bytes) -> Result<(), Error> {
    overlay(host, files, image, size, files.base(), files.root_disk()).await
}

/// Makes the root disk that is to take the other's place.
pub(super) async fn create_next(host: &Host, files: &InstanceFiles, image: &str, size: Bytes) -> Result<(), Error> {
    fresh(host, files, image, size, files.next_base(), files.next_root_disk()).await
}

/// Makes the disk to be rescued with.
pub(super) async fn create_rescue(host: &Host, files: &InstanceFiles, image: &str, size: Bytes) -> Result<(), Error> {
    fresh(host, files, image, size, files.rescue_base(), files.rescue_disk()).await
}

/// Makes an overlay that no domain has yet: one that is there over another image is in the way of nobody.
async fn fresh(
    host: &Host,
    files: &InstanceFiles,
    image: &str,
    size: Bytes,
    link: PathBuf,
    disk: PathBuf,
) -> Result<(), Error> {
    match overlay(host, files, image, size, link.clone(), disk.clone()).await {
        Err(Error::Disk(disk::Error::Different { .. })) => {
            remove_file(&disk).await?;
            overlay(host, files, image, size, link, disk).await
        }
        made => made,
    }
}

async fn overlay(
    host: &Host,
    files: &InstanceFiles,
    image: &str,
    size: Bytes,
    link: PathBuf,
    disk: PathBuf,
) -> Result<(), Error> {
    let entry = host.images.entry_of(image);
    let entry = entry.ok_or_else(|| Error::Gone("the image is no longer in the cache".into()))?;
    tokio::fs::create_dir_all(files.directory())
        .await
        .map_err(Error::io("making the Instance's directory"))?;
    // First the link, so that the image is pinned before a disk lies over it.
    let target = entry.path.clone();
    blocking("linking the base image", move || replace_link(&link, &target)).await?;
    let format = entry.inspection.format;
    host.disks
        .create_overlay(&entry.path, format, &disk, whole_sectors(size))
        .await?;
    Ok(())
}

/// Makes the file of the root disk larger, which no guest has in use.
pub(super) async fn grow(host: &Host, files: &InstanceFiles, size: Bytes) -> Result<(), Error> {
    host.disks
        .resize(&files.root_disk(), Format::Qcow2, whole_sectors(size))
        .await?;
    Ok(())
}

/// How large the root disk is; nothing when that can't be told.
pub(super) async fn size(host: &Host, files: &InstanceFiles) -> Option<Bytes> {
    let info = host.disks.info(&files.root_disk(), Format::Qcow2).await;
    info.inspect_err(|error| tracing::debug!(error = chain(error), "looking at a root disk"))
        .ok()
        .map(|info| Bytes(info.virtual_size))
}

/// A disk is whole sectors.
pub(super) fn whole_sectors(size: Bytes) -> u64 {
    size.0.next_multiple_of(512)
}

fn replace_link(link: &Path, target: &Path) -> io::Result<()> {
    match std::fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink(target, link)
}

/// Puts the next root disk, its link and its seed in the place of those that are there. What has moved already stays.
pub(super) async fn exchange(files: &InstanceFiles) -> Result<(), Error> {
    let moves = [
        // The old image is no longer pinned from here on, and no longer needed: its disk goes with the next step.
        (files.next_base(), files.base()),
        (files.next_root_disk(), files.root_disk()),
        (files.next_seed(), files.seed()),
    ];
    let directory = files.directory().to_owned();
    blocking("exchanging the root disk", move || {
        for (from, to) in moves {
            match std::fs::rename(from, to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        File::open(directory)?.sync_all()
    })
    .await
}

/// Removes what was made for a next root disk.
pub(super) async fn drop_next(files: &InstanceFiles) -> Result<(), Error> {
    // The link last: it pins the image while the disk lies over it.
    remove_file(&files.next_seed()).await?;
    remove_file(&files.next_root_disk()).await?;
    remove_file(&files.next_base()).await
}

/// Removes the disk to be rescued with.
pub(super) async fn remove_rescue(files: &InstanceFiles) -> Result<(), Error> {
    remove_file(&files.rescue_variables()).await?;
    remove_file(&files.rescue_disk()).await?;
    remove_file(&files.rescue_base()).await
}

/// The layer that a link leads to. Its format is in its name, which we gave: nothing is guessed from its bytes.
pub(super) async fn layer(link: PathBuf) -> Result<DiskLayer, Error> {
    let path = blocking("reading the link to the base image", move || std::fs::read_link(link)).await?;
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    let format = match extension.parse() {
        Ok(Format::Qcow2) => DiskFormat::Qcow2,
        Ok(Format::Raw) => DiskFormat::Raw,
        Err(_) => return Err(Error::Gone(format!("{} is not an image of the cache", path.display()))),
    };
    Ok(DiskLayer { path, format })
}

pub(super) async fn blocking<T: Send + 'static>(
    doing: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let result = tokio::task::spawn_blocking(work).await;
    result
        .unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
        .map_err(Error::io(doing))
}
