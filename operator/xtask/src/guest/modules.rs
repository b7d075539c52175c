//! The kernel modules of the guest: the drivers that it needs and what they depend on.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::tree::Tree;
use crate::{command, file};

const DEPMOD_LIMIT: Duration = Duration::from_mins(1);
const DECOMPRESS_LIMIT: Duration = Duration::from_secs(20);

/// Drivers of what a virtual machine can have, VLANs, the file systems of seeds, and one that can be frozen.
const DRIVERS: [&str; 20] = [
    "8021q",
    "ahci",
    "ata_piix",
    "button",
    "evdev",
    "ext4",
    "i6300esb",
    "isofs",
    "loop",
    "nls_ascii",
    "nls_cp437",
    "nls_utf8",
    "sd_mod",
    "sr_mod",
    "vfat",
    "virtio-rng",
    "virtio_balloon",
    "virtio_blk",
    "virtio_net",
    "virtio_scsi",
];

/// What went wrong with the kernel's modules.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An outside program failed.
    #[error(transparent)]
    Command(#[from] command::Failed),
    /// A file could not be handled.
    #[error(transparent)]
    File(#[from] file::Error),
    /// There is not exactly one kernel.
    #[error("expected one kernel in {}, found {found}", folder.display())]
    Kernels {
        /// The folder with modules.
        folder: PathBuf,
        /// How many there are.
        found: usize,
    },
}

/// Adds the drivers, with an index for `modprobe`, to the tree. `system` holds the unpacked kernel package.
pub fn add(tree: &mut Tree, system: &Path) -> Result<(), Error> {
    let all = ["lib/modules", "usr/lib/modules"].map(|folder| system.join(folder));
    let all = all
        .into_iter()
        .find(|folder| folder.is_dir())
        .unwrap_or_else(|| system.join("lib/modules"));
    let version = only_entry(&all)?;
    let source = all.join(&version);
    // The first index says what the drivers depend on; the second is of the chosen ones only, and goes to the guest.
    depmod(&all, &version)?;
    let needed = with_dependencies(&file::read_text(&source.join("modules.dep"))?, &DRIVERS);

    let staging = tempfile::tempdir().map_err(file::failed("making a folder in", std::env::temp_dir()))?;
    let target = staging.path().join(&version);
    let mut modules = BTreeMap::new();
    for path in needed {
        let content = decompressed(&source.join(&path))?;
        let name = path.trim_end_matches(".xz").trim_end_matches(".zst").to_owned();
        file::put(&target.join(&name), &content)?;
        modules.insert(name, content);
    }
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        file::put(&target.join(list), &file::read(&source.join(list))?)?;
    }
    depmod(staging.path(), &version)?;

    let folder = format!("lib/modules/{version}");
    for (name, content) in modules {
        tree.file(&format!("{folder}/{name}"), 0o644, content);
    }
    for index in ["modules.dep", "modules.alias"] {
        tree.file(&format!("{folder}/{index}"), 0o644, file::read(&target.join(index))?);
    }
    Ok(())
}

/// The modules (paths in `modules.dep`) with these names and all that they depend on, sorted. A name that there is no
/// module of is built in, or not built for this kernel: the guest does without it.
fn with_dependencies(index: &str, names: &[&str]) -> Vec<String> {
    let mut needed = Vec::new();
    for (module, dependencies) in index.lines().filter_map(|line| line.split_once(':')) {
        let file = module.rsplit('/').next().unwrap_or(module);
        if names.contains(&file.split(".ko").next().unwrap_or(file)) {
            needed.push(module.to_owned());
            // depmod lists indirect dependencies too.
            needed.extend(dependencies.split_whitespace().map(str::to_owned));
        }
    }
    needed.sort();
    needed.dedup();
    needed
}

fn only_entry(folder: &Path) -> Result<String, Error> {
    let listing = fs::read_dir(folder).map_err(file::failed("listing", folder))?;
    let names: Vec<String> = listing
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    match names.as_slice() {
        [one] => Ok(one.clone()),
        many => Err(Error::Kernels {
            folder: folder.to_owned(),
            found: many.len(),
        }),
    }
}

/// Indexes `modules/version`.
fn depmod(modules: &Path, version: &str) -> Result<(), Error> {
    // depmod looks below /lib or below /usr/lib, as it was built; in this folder both are the same.
    let base = tempfile::tempdir().map_err(file::failed("making a folder in", std::env::temp_dir()))?;
    let library = base.path().join("usr/lib");
    file::make_folder(&library)?;
    for (link, target) in [
        (base.path().join("lib"), Path::new("usr/lib")),
        (library.join("modules"), modules),
    ] {
        symlink(target, &link).map_err(file::failed("linking", &link))?;
    }
    let mut depmod = Command::new("depmod");
    depmod.arg("--basedir").arg(base.path()).arg(version);
    command::output(&mut depmod, DEPMOD_LIMIT).map_err(command::failed("indexing the kernel's modules"))?;
    Ok(())
}

/// Modules are decompressed once here rather than at each boot; the whole disk is compressed anyway.
fn decompressed(path: &Path) -> Result<Vec<u8>, Error> {
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return Ok(file::read(path)?),
    };
    let mut decompress = Command::new(program);
    decompress.args(["--decompress", "--stdout"]).arg(path);
    let doing = format!("decompressing {}", path.display());
    Ok(command::output(&mut decompress, DECOMPRESS_LIMIT).map_err(command::failed(doing))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_brings_what_it_depends_on_and_nothing_else() {
        let index = "kernel/net/core/failover.ko.xz:\n\
                     kernel/drivers/net/net_failover.ko.xz: kernel/net/core/failover.ko.xz\n\
                     kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/net/core/failover.ko.xz\n\
                     kernel/drivers/net/e1000.ko.xz:\n";
        assert_eq!(
            with_dependencies(index, &["virtio_net", "built_in"]),
            [
                "kernel/drivers/net/net_failover.ko.xz",
                "kernel/drivers/net/virtio_net.ko.xz",
                "kernel/net/core/failover.ko.xz"
            ]
        );
    }
}
