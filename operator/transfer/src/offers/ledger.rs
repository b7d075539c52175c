//! What was offered to whom, and who owns it? One file for each offer, written before anybody is told.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use virga_images::{Digest, durable};

use super::{Error, version::Version};
use crate::{
    handover::Source,
    name::{NodeName, OfferId},
};

/// The longest record that is read.
const MAX_RECORD: u64 = 64 * 1024;

/// One offer, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) id: OfferId,
    pub(super) path: PathBuf,
    pub(super) version: Version,
    pub(super) receiver: NodeName,
    /// Of the token.
    pub(super) token: Digest,
    pub(super) expires: Timestamp,
    pub(super) handover: bool,
    pub(super) source: Source,
}

/// The directory of records.
#[derive(Debug)]
pub(super) struct Ledger(PathBuf);

impl Ledger {
    /// Opens the ledger and reads all. A record that can't be read is an error: it may say that something was let go of.
    pub(super) fn open(directory: &Path) -> Result<(Self, Vec<Record>), Error> {
        fs::create_dir_all(directory).map_err(Error::io("making the ledger", directory))?;
        let mut records = Vec::new();
        for entry in fs::read_dir(directory).map_err(Error::io("reading the ledger", directory))? {
            let path = entry.map_err(Error::io("reading the ledger", directory))?.path();
            // What is left of a write that a crash cut off has another name.
            let Some(id) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")) else {
                continue;
            };
            let Ok(id) = id.parse::<OfferId>() else { continue };
            let record = read(&path).map_err(Error::io("reading a record of the ledger", &path))?;
            if record.id != id {
                let foreign = io::Error::new(io::ErrorKind::InvalidData, "it is another offer's");
                return Err(Error::io("reading a record of the ledger", &path)(foreign));
            }
            records.push(record);
        }
        Ok((Self(directory.to_owned()), records))
    }

    /// Writes a record down. Blocks until it is durable.
    pub(super) fn write(&self, record: &Record) -> Result<(), Error> {
        let path = self.path(&record.id);
        let written = serde_json::to_vec(record)
            .map_err(io::Error::from)
            .and_then(|bytes| durable::write(&path, &bytes, 0o600));
        written.map_err(Error::io("writing the ledger", &path))
    }

    /// Removes a record. Blocks.
    pub(super) fn remove(&self, id: &OfferId) -> Result<(), Error> {
        let path = self.path(id);
        durable::remove(&path).map_err(Error::io("writing the ledger", &path))
    }

    fn path(&self, id: &OfferId) -> PathBuf {
        self.0.join(format!("{id}.json"))
    }
}

fn read(path: &Path) -> io::Result<Record> {
    if fs::metadata(path)?.len() > MAX_RECORD {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long"));
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}
