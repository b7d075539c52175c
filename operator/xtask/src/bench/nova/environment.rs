//! A Python environment with Nova in it, made at the first use.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::super::Error;
use crate::{command, digest, file};

const REQUIREMENTS: &str = include_str!("requirements.txt");
/// Debian's own: python3-venv is for no other.
const PYTHON: &str = "/usr/bin/python3";
const MAKE_LIMIT: Duration = Duration::from_mins(2);
/// Some 130 packages, from a slow mirror.
const INSTALL_LIMIT: Duration = Duration::from_mins(15);

/// The environment's Python.
pub fn python() -> Result<PathBuf, Error> {
    let version = command::text(Command::new(PYTHON).arg("--version"), MAKE_LIMIT);
    let version = version.map_err(command::failed("asking Python for its version: run `cargo xtask deps`"))?;
    let key = digest::sha256(format!("{version}{REQUIREMENTS}").as_bytes());
    let cache = command::cache_root().ok_or(Error::NoCache)?;
    let folder = cache.join(format!("nova-{}", &key[..16]));
    let (python, ready) = (folder.join("bin/python"), folder.join("ready"));
    if ready.exists() {
        return Ok(python);
    }
    println!("installing Nova into {}", folder.display());
    if folder.exists() {
        // Half of one, from a run that was ended.
        fs::remove_dir_all(&folder).map_err(file::failed("removing", &folder))?;
    }
    file::make_folder(&cache)?;
    let made = command::show(Command::new(PYTHON).args(["-m", "venv"]).arg(&folder), MAKE_LIMIT);
    made.map_err(command::failed("making a Python environment: run `cargo xtask deps`"))?;
    let list = folder.join("requirements.txt");
    file::write(&list, REQUIREMENTS)?;
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
    ])
    .arg(&list);
    command::show(&mut pip, INSTALL_LIMIT).map_err(command::failed("installing Nova"))?;
    file::write(&ready, "")?;
    Ok(python)
}
