//! The file that is being received, and how it gets its name.
//!
//! `NAME.partial` is written from its beginning to its end; `NAME.transfer` is the journal. When all is there and has
//! the source's digest, that is written down, and the file becomes `NAME`. For a hand-over the journal stays until the
//! source has let go: `NAME` with a journal beside it is not ours yet.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use virga_images::{Digest, durable};

use super::{
    Error,
    journal::{Journal, Record},
};
use crate::{
    content::{self, Hashing},
    handover::{Heard, Receiver},
};

/// Zeros of this length are not written: they are holes.
const HOLE: usize = 64 * 1024;

/// Where a file goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Paths {
    pub(super) whole: PathBuf,
    pub(super) partial: PathBuf,
    pub(super) journal: PathBuf,
}

impl Paths {
    pub(super) fn of(whole: &Path) -> Self {
        let beside = |suffix: &str| {
            let mut name = OsString::from(whole);
            name.push(suffix);
            PathBuf::from(name)
        };
        Self {
            whole: whole.to_owned(),
            partial: beside(".partial"),
            journal: beside(".transfer"),
        }
    }

    /// Opens the journal. `None`: it is not there, and `make` does not want it made.
    pub(super) fn journal(&self, make: bool) -> Result<Option<Journal>, Error> {
        Journal::open(&self.journal, make).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Error::UnderWay(self.whole.clone()),
            _ => Error::io("opening the journal", &self.journal)(error),
        })
    }
}

/// What the journal says at the beginning.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing, or a part: bytes are to come.
    Partial(Begun),
    /// It was verified before; the file has its name.
    Verified(Verified),
}

/// A transfer whose bytes are to come. The journal is locked.
#[derive(Debug)]
pub(super) struct Begun {
    paths: Paths,
    journal: Journal,
}

/// A file that is whole, durable, and has its name.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) paths: Paths,
    pub(super) journal: Journal,
    pub(super) record: Record,
    pub(super) digest: Digest,
}

/// Looks at what an earlier attempt left, and finishes what it had begun. Blocks.
pub(super) fn find(paths: Paths, what: &str) -> Result<Found, Error> {
    let is_there = |path: &Path| fs::symlink_metadata(path).is_ok();
    let had_journal = is_there(&paths.journal);
    if !had_journal && is_there(&paths.whole) {
        return Err(Error::Exists(paths.whole));
    }
    let Some(mut journal) = paths.journal(true)? else {
        return Err(Error::BrokeOff);
    };
    let Some(record) = journal.record().cloned() else {
        // A journal that says nothing was not there when the file was verified.
        if is_there(&paths.whole) {
            if !had_journal {
                remove_journal(&paths, journal)?;
            }
            return Err(Error::Exists(paths.whole));
        }
        return Ok(Found::Partial(Begun { paths, journal }));
    };
    match record.receiver {
        Receiver::Partial => Ok(Found::Partial(Begun { paths, journal })),
        Receiver::Verified { .. } if record.what != what => Err(Error::OtherTransfer(paths.whole)),
        Receiver::Verified { digest } => {
            name(&paths)?;
            Ok(Found::Verified(Verified {
                paths,
                journal,
                record,
                digest,
            }))
        }
        Receiver::Owned { .. } => {
            remove_journal(&paths, journal)?;
            Err(Error::Exists(paths.whole))
        }
        Receiver::Abandoned => {
            remove_files(&paths)?;
            let fresh = Record::new(String::new(), String::new(), 0, false);
            journal
                .write(fresh)
                .map_err(Error::io("writing the journal", &paths.journal))?;
            Ok(Found::Partial(Begun { paths, journal }))
        }
    }
}

/// Gives the partial file its name, unless it has it. Blocks until that is durable.
pub(super) fn name(paths: &Paths) -> Result<(), Error> {
    let renamed = renameat_with(CWD, &paths.partial, CWD, &paths.whole, RenameFlags::NOREPLACE);
    match renamed.map_err(io::Error::from) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if fs::symlink_metadata(&paths.whole).is_err() {
                return Err(Error::Lost(paths.whole.clone()));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(Error::Exists(paths.whole.clone())),
        Err(error) => return Err(Error::io("naming", &paths.whole)(error)),
    }
    let synced = durable::parent(&paths.whole).and_then(durable::sync_directory);
    synced.map_err(Error::io("syncing the directory of", &paths.whole))
}

/// Removes the part. Blocks.
pub(super) fn remove_partial(paths: &Paths) -> Result<(), Error> {
    durable::remove(&paths.partial).map_err(Error::io("removing", &paths.partial))
}

/// Removes the received file under both names. Blocks.
pub(super) fn remove_files(paths: &Paths) -> Result<(), Error> {
    remove_partial(paths)?;
    durable::remove(&paths.whole).map_err(Error::io("removing", &paths.whole))
}

pub(super) fn remove_journal(paths: &Paths, journal: Journal) -> Result<(), Error> {
    journal
        .remove()
        .map_err(Error::io("removing the journal", &paths.journal))
}

impl Begun {
    /// How much of data must come still, when this is what comes.
    pub(super) fn durable(&self, wanted: &Record) -> u64 {
        match self.journal.record() {
            Some(record) if goes_on(record, wanted) => record.done,
            _ => 0,
        }
    }

    /// Opens the partial file for this version: goes on where it is durable, or begins again. Blocks.
    pub(super) fn open(self, wanted: Record) -> Result<Partial, Error> {
        let Self { paths, mut journal } = self;
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&paths.partial);
        let failed = || Error::io("writing", &paths.partial);
        let file = opened.map_err(failed())?;
        let there = file.metadata().map_err(failed())?;
        if !there.is_file() {
            return Err(Error::Exists(paths.partial));
        }
        let kept = journal.record().filter(|record| goes_on(record, &wanted));
        let record = match kept {
            Some(record) if there.len() >= record.position => {
                let mut record = record.clone();
                // A copy may be handed over the next time.
                record.handover = wanted.handover;
                record
            }
            _ => wanted,
        };
        // What lies behind may be anything after a crash. It must be a hole, since zeros are not written.
        let mut begin = |record: Record| -> io::Result<()> {
            file.set_len(record.position)?;
            file.set_len(record.length)?;
            file.sync_all()?;
            durable::sync_directory(durable::parent(&paths.partial)?)?;
            journal.write(record)
        };
        begin(record.clone()).map_err(failed())?;
        Ok(Partial {
            position: record.position,
            done: record.done,
            record,
            file,
            journal,
            paths,
        })
    }
}

fn goes_on(record: &Record, wanted: &Record) -> bool {
    let same = (&record.what, &record.version, record.length) == (&wanted.what, &wanted.version, wanted.length);
    same && record.receiver == Receiver::Partial && record.position <= record.length
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Partial {
    paths: Paths,
    journal: Journal,
    file: File,
    record: Record,
    /// All before is written.
    position: u64,
    /// How much of that was data.
    done: u64,
}

impl Partial {
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// How much data is written and not yet durable.
    pub(super) fn unsynced(&self) -> u64 {
        self.done - self.record.done
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    /// Writes data that comes next, with a hole before it if `at` is further on. Blocks.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut offset = at;
        for block in bytes.chunks(HOLE) {
            if block.iter().any(|byte| *byte != 0) {
                let written = self.file.write_all_at(block, offset);
                written.map_err(Error::io("writing", &self.paths.partial))?;
            }
            offset += block.len() as u64;
        }
        self.position = offset;
        self.done += bytes.len() as u64;
        Ok(())
    }

    /// All up to the end is a hole.
    pub(super) fn end(&mut self) {
        self.position = self.record.length;
    }

    /// Makes what is written durable, and then writes down that it is. Blocks.
    pub(super) fn checkpoint(&mut self) -> Result<(), Error> {
        let synced = self.file.sync_data();
        synced.map_err(Error::io("syncing", &self.paths.partial))?;
        self.record.position = self.position;
        self.record.done = self.done;
        self.note()
    }

    /// The digest of what is in the file. Blocks.
    pub(super) fn digest(&self, hashing: &Hashing) -> Result<Digest, Error> {
        let digest = content::digest(&self.file, self.record.length, hashing);
        digest.map_err(Error::io("reading", &self.paths.partial))
    }

    /// Begins again from nothing: what is there is not what the source has. Blocks.
    pub(super) fn discard(&mut self) -> Result<(), Error> {
        (self.position, self.done) = (0, 0);
        (self.record.position, self.record.done) = (0, 0);
        self.note()?;
        let length = self.record.length;
        let emptied = self.file.set_len(0).and_then(|()| self.file.set_len(length));
        emptied.map_err(Error::io("writing", &self.paths.partial))
    }

    /// The whole file is here and has the source's digest: writes that down, and gives it its name. Blocks.
    pub(super) fn verified(mut self, digest: Digest) -> Result<Verified, Error> {
        self.file
            .sync_all()
            .map_err(Error::io("syncing", &self.paths.partial))?;
        let next = self.record.receiver.after(Heard::Whole(digest));
        self.record.receiver = next.map_err(|source| Error::State {
            path: self.paths.whole.clone(),
            source,
        })?;
        self.note()?;
        name(&self.paths)?;
        Ok(Verified {
            paths: self.paths,
            journal: self.journal,
            record: self.record,
            digest,
        })
    }

    fn note(&mut self) -> Result<(), Error> {
        let noted = self.journal.write(self.record.clone());
        noted.map_err(Error::io("writing the journal", &self.paths.journal))
    }
}

impl Verified {
    /// Writes down what was heard. Blocks until it is durable.
    pub(super) fn hear(&mut self, heard: Heard) -> Result<Receiver, Error> {
        let next = self.record.receiver.after(heard).map_err(|source| Error::State {
            path: self.paths.whole.clone(),
            source,
        })?;
        self.record.receiver = next;
        let noted = self.journal.write(self.record.clone());
        noted.map_err(Error::io("writing the journal", &self.paths.journal))?;
        Ok(next)
    }
}

#[cfg(test)]
mod tests;
