//! How are an Instance's and a Volume's files taken away?
//!
//! What is gone already was taken away: a removal that was cut short is done again.

use std::{io, path::Path};

use crate::effect::Error;

/// Removes a directory with all that is in it.
pub async fn remove_directory(directory: &Path) -> Result<(), Error> {
    let removed = tokio::fs::remove_dir_all(directory).await;
    unless_missing(removed).map_err(Error::io(format!("removing {}", directory.display())))
}

/// Removes a file.
pub async fn remove_file(path: &Path) -> Result<(), Error> {
    let removed = tokio::fs::remove_file(path).await;
    unless_missing(removed).map_err(Error::io(format!("removing {}", path.display())))
}

/// Moves a volume's file to where it is kept.
pub async fn retain(path: &Path, kept: &Path) -> Result<(), Error> {
    let moved = tokio::fs::rename(path, kept).await;
    unless_missing(moved).map_err(Error::io(format!("keeping {}", path.display())))
}

fn unless_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
