//! The note beside an Instance's disks of what was done to its guest, once for each time that asked for it.

use std::io;

use virga_core::instance::Deeds;

use super::power_record::replace;
use crate::layout::InstanceFiles;

/// A note is a few times; what is longer was not written by us.
const MAX_BYTES: usize = 4096;

/// What was noted; nothing when there is no note, or none that can be read: then the status has what was told.
pub async fn read(files: &InstanceFiles) -> Deeds {
    match tokio::fs::read(files.deeds()).await {
        Ok(bytes) if bytes.len() <= MAX_BYTES => serde_json::from_slice(&bytes).unwrap_or_default(),
        _ => Deeds::default(),
    }
}

/// Notes it. A crash leaves the old note or the new one.
pub async fn write(files: &InstanceFiles, deeds: Deeds) -> io::Result<()> {
    tokio::fs::create_dir_all(files.directory()).await?;
    replace(&files.deeds(), &serde_json::to_vec(&deeds)?).await
}
