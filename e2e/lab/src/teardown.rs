//! Removes a lab, whole or half-made, by what it wrote down about itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cgroups;
use crate::command;
use crate::fabric;
use crate::layout::{Layout, Record};
use crate::processes;

/// Something of a lab could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its processes could not be ended.
    #[error("ending the lab's processes")]
    Processes(#[from] command::Error),
    /// Its processes are still there.
    #[error("the lab's processes {pids:?} are still there after they were killed")]
    Undead {
        /// Their numbers.
        pids: Vec<u32>,
    },
    /// Its link could not be removed.
    #[error(transparent)]
    Fabric(#[from] fabric::Error),
    /// A file, folder or control group could not be removed.
    #[error("removing {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Ends and removes everything of the lab. Each step finds nothing to do where an earlier teardown has been; the record
/// goes last, so that one that was cut short can be repeated.
pub fn remove(layout: &Layout, record: &Record) -> Result<(), Error> {
    end_processes(&record.id)?;
    fabric::remove_link(layout.root())?;
    if record.nodes > 0 {
        cgroups::remove_all().map_err(|source| Error::Io {
            path: "/sys/fs/cgroup".into(),
            source,
        })?;
    }
    // Innermost first; what meanwhile got content belongs to somebody else.
    for folder in record.made.iter().rev() {
        let _ = fs::remove_dir(folder);
    }
    remove_content(layout)?;
    gone(&layout.record(), fs::remove_file(layout.record()))?;
    gone(layout.root(), fs::remove_dir(layout.root()))
}

/// First of all what starts others again: the nodes' first processes, and with them all in their namespaces.
fn end_processes(id: &str) -> Result<(), Error> {
    let inits = processes::all(id).into_iter().filter(|&pid| processes::is_init(pid));
    let inside: Vec<u32> = inits.flat_map(processes::family).map(|(pid, _)| pid).collect();
    // What was being started while we looked is found by the next look.
    let mut left = processes::kill(&inside)?;
    for _ in 0..5 {
        let found = processes::all(id);
        if found.is_empty() && left.is_empty() {
            return Ok(());
        }
        left = processes::kill(&[found, left].concat())?;
    }
    left.extend(processes::all(id));
    if left.is_empty() {
        Ok(())
    } else {
        Err(Error::Undead { pids: left })
    }
}

fn remove_content(layout: &Layout) -> Result<(), Error> {
    let path = layout.root().to_owned();
    let entries = fs::read_dir(&path).map_err(|source| Error::Io { path, source })?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path == layout.record() {
            continue;
        }
        // Links are removed, not followed; nothing is mounted here, mounts were in the nodes' namespaces.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        gone(
            &path,
            if is_folder {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            },
        )?;
    }
    Ok(())
}

fn gone(path: &Path, outcome: io::Result<()>) -> Result<(), Error> {
    match outcome {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Io {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}
