//! What the machine must have before anything is started.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What the machine lacks.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Programs are missing.
    #[error("these programs are missing: {}; `cargo xtask deps` installs what the lab needs", programs.join(", "))]
    Programs {
        /// Their names.
        programs: Vec<&'static str>,
    },
    /// Namespaces, mounts and links need root.
    #[error("the lab makes namespaces, mounts and links, and needs root")]
    NotRoot,
}

/// What nodes run and what builds them.
const NODES: [&str; 19] = [
    "bash",
    "containerd",
    "ctr",
    "dnsmasq",
    "ethtool",
    "go",
    "hostname",
    "ip",
    "iptables",
    "kill",
    "libvirtd",
    "mount",
    "nft",
    "nsenter",
    "qemu-system-x86_64",
    "runc",
    "setsid",
    "unshare",
    "virtlogd",
];

/// What a control plane on the loopback interface needs.
const CONTROL_PLANE: [&str; 4] = ["bash", "go", "kill", "setsid"];

/// What OVN adds, in the control plane's network and on nodes.
const OVN: [&str; 8] = [
    "ovn-appctl",
    "ovn-controller",
    "ovn-nbctl",
    "ovn-northd",
    "ovn-sbctl",
    "ovs-vswitchd",
    "ovsdb-server",
    "ovsdb-tool",
];

/// Whether a lab can be made here.
pub fn check_lab(with_ovn: bool) -> Result<(), Error> {
    if !is_root() {
        return Err(Error::NotRoot);
    }
    let with_it: &[_] = if with_ovn { &OVN } else { &[] };
    check(&[&NODES, with_it].concat())
}

/// Whether a control plane can be made here.
pub fn check_control_plane() -> Result<(), Error> {
    check(&CONTROL_PLANE)
}

fn check(programs: &[&'static str]) -> Result<(), Error> {
    let path = env::var_os("PATH").unwrap_or_default();
    let missing: Vec<_> = programs
        .iter()
        .copied()
        .filter(|program| !env::split_paths(&path).any(|folder| is_program(&folder.join(program))))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Error::Programs { programs: missing })
    }
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Real, effective, saved and file system user.
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1))
        == Some("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_program_is_named_at_once() {
        let error = check(&["sh", "no-such-thing", "nor-this"]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("these programs are missing: no-such-thing, nor-this;"),
            "{error}"
        );
    }
}
