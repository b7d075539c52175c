//! Why a disk could not be had.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

/// Why a disk could not be made, changed or looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path is relative or has no directory.
    #[error("the disk path {0} is not absolute")]
    BadPath(PathBuf),
    /// A disk must have a size, and a multiple of 512 bytes.
    #[error("a disk of {0} bytes is not possible, it takes whole sectors of 512 bytes")]
    BadSize(u64),
    /// A disk is there under this name, and it is another one.
    #[error("the disk {path} is there already, and {difference}")]
    Different {
        /// Where it is.
        path: PathBuf,
        /// What is not as asked for.
        difference: String,
    },
    /// The disk would cut off the end of its base or of itself.
    #[error("the disk {path} can't have {wanted} bytes: it would lose the end of what has {current}")]
    WouldShrink {
        /// Which disk.
        path: PathBuf,
        /// Asked for, in bytes.
        wanted: u64,
        /// There, in bytes.
        current: u64,
    },
    /// The program is not there or could not be started.
    #[error("starting {program}")]
    Start {
        /// Which program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program did not end in time and was killed.
    #[error("{doing} took longer than {} s and was stopped", .limit.as_secs())]
    TimedOut {
        /// What was being done.
        doing: String,
        /// The limit.
        limit: Duration,
    },
    /// The program said no.
    #[error("{doing} failed ({status}): {stderr}")]
    Failed {
        /// What was being done.
        doing: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said, at most 4 KiB.
        stderr: String,
    },
    /// The program's answer could not be read.
    #[error("reading what qemu-img says about {path}")]
    Answer {
        /// Which disk.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The file system said no.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why.
        source: io::Error,
    },
}
