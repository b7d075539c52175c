//! Which shared libraries a program needs, asked of its own dynamic loader.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::command;

const LOADER_LIMIT: Duration = Duration::from_secs(20);

/// What went wrong while the libraries of a program were looked up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program could not be read.
    #[error("reading {}", path.display())]
    Read {
        /// The program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not a 64-bit little-endian ELF file with sound program headers.
    #[error("{} is not a 64-bit ELF program", path.display())]
    NotElf {
        /// The program.
        path: PathBuf,
    },
    /// The loader could not list the libraries.
    #[error("listing the libraries of {}", path.display())]
    List {
        /// The program.
        path: PathBuf,
        /// Why.
        source: command::Error,
    },
    /// A library is on no search path.
    #[error("{} needs {library}, which is not found", path.display())]
    Missing {
        /// The program.
        path: PathBuf,
        /// The name that it asks for.
        library: String,
    },
}

/// Where programs and their libraries come from.
#[derive(Debug, Clone, Copy)]
pub enum System<'a> {
    /// This machine: its own loader and search paths.
    Machine,
    /// Packages extracted below a folder, with that folder's loader and libraries only.
    Folder(&'a Path),
}

/// The files that a program needs beside itself, the loader included, each at the absolute path by which the program
/// or the loader asks for it (on the machine or below the folder). Empty for a static program.
pub fn of(program: &Path, system: System<'_>) -> Result<Vec<PathBuf>, Error> {
    let bytes = fs::read(program).map_err(|source| Error::Read {
        path: program.to_owned(),
        source,
    })?;
    let Some(interpreter) = interpreter(&bytes).map_err(|()| Error::NotElf {
        path: program.to_owned(),
    })?
    else {
        return Ok(Vec::new());
    };
    let mut list;
    match system {
        System::Machine => {
            list = Command::new(&interpreter);
            list.arg("--list");
        }
        System::Folder(root) => {
            let folders = library_folders(root);
            let name = Path::new(&interpreter).file_name().unwrap_or_default();
            let loader = folders
                .iter()
                .map(|folder| folder.join(name))
                .find(|path| path.exists());
            let loader = loader.ok_or_else(|| Error::Missing {
                path: program.to_owned(),
                library: interpreter.clone(),
            })?;
            let search = folders
                .iter()
                .map(|folder| folder.display().to_string())
                .collect::<Vec<_>>()
                .join(":");
            list = Command::new(loader);
            list.args(["--inhibit-cache", "--library-path", &search, "--list"]);
        }
    }
    list.arg(program).env_remove("LD_LIBRARY_PATH").env_remove("LD_PRELOAD");
    let text = command::text(&mut list, LOADER_LIMIT).map_err(|source| Error::List {
        path: program.to_owned(),
        source,
    })?;
    let libraries = listed(&text).map_err(|library| Error::Missing {
        path: program.to_owned(),
        library,
    })?;
    Ok(libraries)
}

/// Folders with libraries below `root`, in the loader's order. Debian 12 has some in `/lib`, Debian 13 all in `/usr`.
fn library_folders(root: &Path) -> Vec<PathBuf> {
    ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64", "usr/lib64"]
        .iter()
        .map(|folder| root.join(folder))
        .filter(|folder| folder.is_dir())
        .collect()
}

/// The paths of a loader's list: `libz.so.1 => /lib/libz.so.1 (0x…)`; `/lib64/ld-linux.so.2 (0x…)` for the loader
/// itself (with an arrow too when it was run from elsewhere); `linux-vdso.so.1 (0x…)` for the kernel's page, which is no
/// file. The error is a library not found.
fn listed(text: &str) -> Result<Vec<PathBuf>, String> {
    let mut paths = Vec::new();
    for line in text.lines().map(str::trim) {
        let (name, place) = line.split_once(" => ").unwrap_or((line, line));
        let place = place.split(" (0x").next().unwrap_or_default();
        if place == "not found" {
            return Err(name.to_owned());
        }
        if place.starts_with('/') {
            paths.push(PathBuf::from(place));
        }
    }
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// The dynamic loader that an ELF program names (its PT_INTERP segment); `None` for a static program.
pub fn interpreter(elf: &[u8]) -> Result<Option<String>, ()> {
    const PT_INTERP: u64 = 3;
    let number = |at: usize, length: usize| -> Result<u64, ()> {
        let bytes = elf.get(at..at.checked_add(length).ok_or(())?).ok_or(())?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let place = |at: usize, length: usize| usize::try_from(number(at, length)?).map_err(drop);
    // Magic, 64-bit, little-endian.
    if elf.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err(());
    }
    let (table, size, count) = (place(0x20, 8)?, place(0x36, 2)?, place(0x38, 2)?);
    for index in 0..count {
        let header = size
            .checked_mul(index)
            .and_then(|offset| offset.checked_add(table))
            .ok_or(())?;
        if number(header, 4)? == PT_INTERP {
            let (start, length) = (place(header + 8, 8)?, place(header + 32, 8)?);
            let name = elf.get(start..start.checked_add(length).ok_or(())?).ok_or(())?;
            let name = name.strip_suffix(b"\0").unwrap_or(name);
            return String::from_utf8(name.to_vec()).map(Some).map_err(drop);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loader_s_list_gives_files_and_no_kernel_page() {
        let text = "\tlinux-vdso.so.1 (0x00007f7d3c8fb000)\n\tlibz.so.1 => /lib/x/libz.so.1 (0x00007f7d3c8cb000)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f7d3c8fd000)\n";
        let paths = listed(text).expect("all found");
        assert_eq!(
            paths,
            [
                PathBuf::from("/lib/x/libz.so.1"),
                PathBuf::from("/lib64/ld-linux-x86-64.so.2")
            ]
        );
    }

    #[test]
    fn a_library_that_is_not_found_is_named() {
        assert_eq!(
            listed("\tlibtomcrypt.so.1 => not found\n"),
            Err("libtomcrypt.so.1".to_owned())
        );
    }

    #[test]
    fn this_very_program_needs_its_loader_and_the_c_library() {
        let program = std::env::current_exe().expect("a program runs");
        let paths = of(&program, System::Machine).expect("the closure is found");
        let has = |part: &str| paths.iter().any(|path| path.to_string_lossy().contains(part));
        assert!(has("ld-linux") && has("libc.so.6"), "{paths:?}");
    }

    #[test]
    fn what_is_no_elf_file_or_is_cut_short_is_refused() {
        assert_eq!(interpreter(b"#!/bin/sh\n"), Err(()));
        let program = fs::read("/proc/self/exe").expect("a program runs");
        assert_eq!(interpreter(&program[..200]), Err(()));
    }
}
