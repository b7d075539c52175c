//! What of the file is durable here? A small file beside it, of two slots that are written in turn.
//!
//! A slot that a crash tore has a wrong sum, and then the other one holds: it says less, and what it says is true. Only
//! what was synced to disk is written down. The file also is the lock: one process, one task writes.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use virga_images::{Digest, durable};

use crate::handover::Receiver;

/// The size of a slot: a page, which disks write whole more often than not.
const SLOT: u64 = 4096;
/// A record with its sum and a line's end is at most this.
const MAX_RECORD: usize = 4096;
const SUM: usize = 64;
/// How often a journal that was removed while it was being opened is opened anew.
const REOPENED: usize = 8;

/// What is known of a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// Counts up; the higher one of two good slots holds.
    sequence: u64,
    /// What is being received: an offer of a node, or a digest.
    pub(super) what: String,
    /// Which version of it.
    pub(super) version: String,
    /// Its length in bytes.
    pub(super) length: u64,
    /// Whether the source is to let go of it.
    pub(super) handover: bool,
    /// All before this offset is durable.
    pub(super) position: u64,
    /// How much of that is data.
    pub(super) done: u64,
    pub(super) receiver: Receiver,
}

impl Record {
    pub(super) fn new(what: String, version: String, length: u64, handover: bool) -> Self {
        Self {
            sequence: 0,
            what,
            version,
            length,
            handover,
            position: 0,
            done: 0,
            receiver: Receiver::Partial,
        }
    }
}

/// An open journal. The lock is held until it is dropped.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    record: Option<Record>,
}

impl Journal {
    /// Opens and locks it, and makes it if it is not there and `make` says so. `None`: it is not there. Blocks, but not
    /// for the lock: while another has it the error is of the kind `WouldBlock`.
    pub(super) fn open(path: &Path, make: bool) -> io::Result<Option<Self>> {
        for _ in 0..REOPENED {
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .create(make)
                .truncate(false)
                .mode(0o600)
                .open(path);
            let file = match opened {
                Err(error) if error.kind() == io::ErrorKind::NotFound && !make => return Ok(None),
                opened => opened?,
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Who had the lock before may have removed it.
            let is_there = std::fs::symlink_metadata(path).is_ok_and(|there| {
                file.metadata()
                    .is_ok_and(|ours| (ours.ino(), ours.dev()) == (there.ino(), there.dev()))
            });
            if is_there {
                durable::sync_directory(durable::parent(path)?)?;
                let record = read(&file)?;
                let path = path.to_owned();
                return Ok(Some(Self { path, file, record }));
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// What it says. Nothing, when it is new or both slots are torn.
    pub(super) fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// Writes down what is true from now on. Blocks until it is durable.
    pub(super) fn write(&mut self, record: Record) -> io::Result<()> {
        let sequence = self.record.as_ref().map_or(0, |before| before.sequence + 1);
        let record = Record { sequence, ..record };
        let slot = encode(&record)?;
        self.file.write_all_at(&slot, sequence % 2 * SLOT)?;
        self.file.sync_data()?;
        self.record = Some(record);
        Ok(())
    }

    /// Removes it. Blocks until that is durable.
    pub(super) fn remove(self) -> io::Result<()> {
        durable::remove(&self.path)
    }
}

fn encode(record: &Record) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(record)?;
    let mut slot = Digest::of(&text).hex().into_bytes();
    slot.push(b' ');
    slot.extend(text);
    slot.push(b'\n');
    if slot.len() > MAX_RECORD {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the record is too long"));
    }
    slot.resize(MAX_RECORD, 0);
    Ok(slot)
}

fn decode(slot: &[u8]) -> Option<Record> {
    let line = slot.split(|byte| *byte == b'\n').next()?;
    let (sum, text) = (line.get(..SUM)?, line.get(SUM + 1..)?);
    (Digest::of(text).hex().as_bytes() == sum).then_some(())?;
    serde_json::from_slice(text).ok()
}

fn read(file: &File) -> io::Result<Option<Record>> {
    let mut found: Option<Record> = None;
    for slot in 0..2 {
        let mut bytes = Vec::new();
        let mut piece = [0; MAX_RECORD];
        while bytes.len() < MAX_RECORD {
            match file.read_at(&mut piece[bytes.len()..], slot * SLOT + bytes.len() as u64) {
                Ok(0) => break,
                Ok(count) => bytes.extend_from_slice(&piece[bytes.len()..][..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(record) = decode(&bytes)
            && found.as_ref().is_none_or(|found| found.sequence < record.sequence)
        {
            found = Some(record);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(position: u64) -> Record {
        Record {
            position,
            ..Record::new("offer node-1/a".to_owned(), "v".to_owned(), 1 << 40, true)
        }
    }

    fn positions(directory: &Path, count: u64) -> PathBuf {
        let path = directory.join("journal");
        let mut journal = Journal::open(&path, true).unwrap().unwrap();
        for position in 1..=count {
            journal.write(record(position)).unwrap();
        }
        path
    }

    fn position(path: &Path) -> Option<u64> {
        let journal = Journal::open(path, false).unwrap().unwrap();
        journal.record().map(|record| record.position)
    }

    #[test]
    fn the_last_record_is_read_back_and_the_file_stays_small() {
        let directory = tempfile::tempdir().unwrap();
        let path = positions(directory.path(), 1001);
        assert_eq!(position(&path), Some(1001));
        assert!(path.metadata().unwrap().len() <= 2 * SLOT);
    }

    #[test]
    fn a_journal_is_open_once_and_one_that_was_removed_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        assert!(Journal::open(&path, false).unwrap().is_none());
        let journal = Journal::open(&path, true).unwrap().unwrap();
        let busy = Journal::open(&path, true).unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::WouldBlock);
        journal.remove().unwrap();
        assert!(Journal::open(&path, false).unwrap().is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_write_that_was_torn_anywhere_leaves_the_record_before_it(
            count in 2_u64..6,
            tear in 0_usize..4096,
            garbage in any::<bool>(),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let path = positions(directory.path(), count);
            // The next one is written up to `tear`; behind it is what was there, or something else.
            let next = encode(&Record { sequence: count, ..record(99) }).unwrap();
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            let slot = count % 2 * SLOT;
            file.write_all_at(&next[..tear], slot).unwrap();
            if garbage {
                file.write_all_at(&vec![0xa5; 4096 - tear], slot + tear as u64).unwrap();
            }
            let length = next.iter().position(|byte| *byte == b'\n').unwrap();
            let found = position(&path);
            if tear > length {
                prop_assert_eq!(found, Some(99));
            } else {
                // Without its line's end it may be whole all the same.
                prop_assert!(found == Some(count) || (tear == length && found == Some(99)), "{found:?}");
            }
        }

        #[test]
        fn any_file_is_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("journal");
            std::fs::write(&path, bytes).unwrap();
            prop_assert_eq!(position(&path), None);
        }
    }
}
