//! The note beside an Instance's disks: when its domain was started and asked to stop.

use std::{io, path::Path};

use virga_core::instance::PowerRecord;

use crate::layout::InstanceFiles;

/// A note is a few numbers; what is longer was not written by us.
const MAX_BYTES: usize = 4096;

/// What was noted; nothing when there is no note, or none that can be read: then the domain starts without a pause.
pub async fn read(files: &InstanceFiles) -> PowerRecord {
    match tokio::fs::read(files.power()).await {
        Ok(bytes) if bytes.len() <= MAX_BYTES => serde_json::from_slice(&bytes).unwrap_or_default(),
        _ => PowerRecord::default(),
    }
}

/// Notes it. A crash leaves the old note or the new one.
pub async fn write(files: &InstanceFiles, record: PowerRecord) -> io::Result<()> {
    tokio::fs::create_dir_all(files.directory()).await?;
    let bytes = serde_json::to_vec(&record)?;
    replace(&files.power(), &bytes).await
}

/// Writes a small file so that it is whole, or as it was.
pub(super) async fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    tokio::fs::write(&temporary, bytes).await?;
    tokio::fs::rename(&temporary, path).await
}
