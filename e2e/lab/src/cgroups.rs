//! The control groups of the nodes: `virga-lab/<node>` in every hierarchy of the machine.
//!
//! Version 1 has a hierarchy a controller, version 2 one for all. A node's group has to be there before its kubelet.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The group that holds the nodes' groups.
const LAB: &str = "virga-lab";

/// A node's group as kubelets name it.
pub fn of_node(node: &str) -> String {
    format!("/{LAB}/{node}")
}

/// Makes a node's group in every hierarchy.
pub fn create(node: &str) -> io::Result<()> {
    for hierarchy in hierarchies()? {
        let lab = hierarchy.join(LAB);
        for group in [lab.clone(), lab.join(node)] {
            fs::create_dir_all(&group)?;
            inherit_cpuset(&group)?;
        }
    }
    Ok(())
}

/// Removes the groups below a node's group: those of pods that died with the node would delay its next kubelet by 3 s
/// each.
pub fn clear(node: &str) -> io::Result<()> {
    for hierarchy in hierarchies()? {
        for group in children(&hierarchy.join(LAB).join(node))? {
            remove(&group)?;
        }
    }
    Ok(())
}

/// Removes every group of the lab. Their processes must have ended.
pub fn remove_all() -> io::Result<()> {
    for hierarchy in hierarchies()? {
        let lab = hierarchy.join(LAB);
        if lab.exists() {
            remove(&lab)?;
        }
    }
    Ok(())
}

/// The mount points of the hierarchies that container runtimes use.
fn hierarchies() -> io::Result<Vec<PathBuf>> {
    Ok(hierarchies_in(&fs::read_to_string("/proc/self/mounts")?))
}

fn hierarchies_in(mounts: &str) -> Vec<PathBuf> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((Path::new(words.next()?), words.next()?))
    });
    mounts
        .filter(|(path, kind)| {
            *kind == "cgroup" && path.parent() == Some(Path::new("/sys/fs/cgroup"))
                || *kind == "cgroup2" && *path == Path::new("/sys/fs/cgroup")
        })
        .map(|(path, _)| path.to_owned())
        .collect()
}

/// A new version 1 cpuset has no CPUs and takes no process.
fn inherit_cpuset(group: &Path) -> io::Result<()> {
    let Some(parent) = group.parent() else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (parent.join(file), group.join(file));
        if from.exists() && to.exists() && fs::read_to_string(&to)?.trim().is_empty() {
            fs::write(&to, fs::read_to_string(&from)?.trim())?;
        }
    }
    Ok(())
}

/// Removes a group and those in it, innermost first. The files in a group go with it.
fn remove(group: &Path) -> io::Result<()> {
    for child in children(group)? {
        remove(&child)?;
    }
    // A group stays busy for a moment after its last process has died.
    let mut outcome = Ok(());
    let gone = crate::wait::until_true(std::time::Duration::from_secs(5), || {
        outcome = fs::remove_dir(group);
        !matches!(&outcome, Err(error) if error.kind() == io::ErrorKind::ResourceBusy)
    });
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::NotFound || !gone => Err(error),
        _ => Ok(()),
    }
}

fn children(group: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    Ok(entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_hierarchies_are_used_and_a_version_2_beside_them_is_not() {
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
                      cgroup /elsewhere/cpu cgroup rw,cpu 0 0\ntmpfs /sys/fs/cgroup tmpfs rw 0 0\n";
        assert_eq!(hierarchies_in(mounts), [Path::new("/sys/fs/cgroup/cpu")]);
    }

    #[test]
    fn version_2_alone_is_one_hierarchy() {
        assert_eq!(
            hierarchies_in("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"),
            [Path::new("/sys/fs/cgroup")]
        );
    }
}
