//! Where on the host is what?

use std::path::{Path, PathBuf};

use uuid::Uuid;

/// The agent's data directory.
///
/// | path | what |
/// |---|---|
/// | `images/` | the image cache |
/// | `instances/<uid>/` | an Instance's root disk, seed, UEFI variables, console log, VNC socket and notes |
/// | `volumes/<uid>.qcow2` | volumes |
/// | `networks/<uid>.hosts` | the addresses that a network's DHCP server gives out; all may read it, none but the agent write |
/// | `retained/` | volumes whose Volume is gone and asked for their data to stay |
/// | `incoming/` | what comes from other hosts and is not whole yet |
/// | `offers/` | the ledger of what was offered to other hosts |
/// | `snapshots/` | images that are being made of Instances' disks, and notes about that |
/// | `store/` | what operators put there for Images with `source.path` |
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout under this directory, which must be absolute: libvirt is given these paths.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The data directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The image cache.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Where Images with `source.path` are.
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// Images that are being made here.
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// The file of an image that is being made, by the Image's uid.
    pub fn snapshot(&self, image: &str) -> PathBuf {
        self.snapshots().join(format!("{image}.qcow2"))
    }

    /// What is noted beside it.
    pub fn snapshot_note(&self, image: &str) -> PathBuf {
        self.snapshots().join(format!("{image}.json"))
    }

    /// All Instances' directories.
    pub fn instances(&self) -> PathBuf {
        self.root.join("instances")
    }

    /// All volumes.
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// Networks' files.
    pub fn networks(&self) -> PathBuf {
        self.root.join("networks")
    }

    /// Volumes that outlived their Volume.
    pub fn retained(&self) -> PathBuf {
        self.root.join("retained")
    }

    /// Where what comes from other hosts is until it is whole.
    pub fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// The ledger of what was offered to other hosts.
    pub fn offers(&self) -> PathBuf {
        self.root.join("offers")
    }

    /// An image that comes from another host, by the Image's uid.
    pub fn incoming_image(&self, uid: &str) -> PathBuf {
        self.incoming().join(format!("image-{uid}"))
    }

    /// A volume's file.
    pub fn volume(&self, uid: Uuid) -> PathBuf {
        self.volumes().join(format!("{uid}.qcow2"))
    }

    /// Where a volume's file goes when it is kept. Its name tells people what it was.
    pub fn retained_volume(&self, namespace: &str, name: &str, uid: Uuid) -> PathBuf {
        self.retained().join(format!("{namespace}.{name}.{uid}.qcow2"))
    }

    /// An Instance's files.
    pub fn instance(&self, uid: Uuid) -> InstanceFiles {
        InstanceFiles {
            directory: self.instances().join(uid.to_string()),
        }
    }

    /// Makes the directories that are missing.
    pub fn create(&self) -> std::io::Result<()> {
        for directory in [
            self.images(),
            self.instances(),
            self.volumes(),
            self.networks(),
            self.retained(),
            self.incoming(),
            self.offers(),
            self.snapshots(),
            self.store(),
        ] {
            std::fs::create_dir_all(directory)?;
        }
        Ok(())
    }
}

/// The files of one Instance.
#[derive(Clone, Debug)]
pub struct InstanceFiles {
    directory: PathBuf,
}

impl InstanceFiles {
    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The root disk, a qcow2 overlay over the cached image.
    pub fn root_disk(&self) -> PathBuf {
        self.directory.join("root.qcow2")
    }

    /// A symbolic link to the image that the root disk lies over. Made before the root disk.
    pub fn base(&self) -> PathBuf {
        self.directory.join("base")
    }

    /// The NoCloud seed.
    pub fn seed(&self) -> PathBuf {
        self.directory.join("seed.iso")
    }

    /// The root disk that is to take the other's place in a rebuild.
    pub fn next_root_disk(&self) -> PathBuf {
        self.directory.join("next.qcow2")
    }

    /// A symbolic link to the image that the next root disk lies over. Made before it.
    pub fn next_base(&self) -> PathBuf {
        self.directory.join("next.base")
    }

    /// The seed of the next root disk.
    pub fn next_seed(&self) -> PathBuf {
        self.directory.join("next.iso")
    }

    /// The disk to be rescued with, a qcow2 overlay over a cached image.
    pub fn rescue_disk(&self) -> PathBuf {
        self.directory.join("rescue.qcow2")
    }

    /// A symbolic link to the image that the rescue disk lies over. Made before it.
    pub fn rescue_base(&self) -> PathBuf {
        self.directory.join("rescue.base")
    }

    /// The UEFI variables of a guest that is rescued.
    pub fn rescue_variables(&self) -> PathBuf {
        self.directory.join("rescue.fd")
    }

    /// Every link to an image that a disk lies over.
    pub fn bases(&self) -> [PathBuf; 3] {
        [self.base(), self.next_base(), self.rescue_base()]
    }

    /// What was made of the disks since they were made first.
    pub fn root_record(&self) -> PathBuf {
        self.directory.join("root.json")
    }

    /// The serial console's log; virtlogd bounds and rotates it.
    pub fn console_log(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// The socket that serves VNC.
    pub fn vnc_socket(&self) -> PathBuf {
        self.directory.join("vnc.sock")
    }

    /// UEFI's variables. libvirt makes them from a template at the first start.
    pub fn uefi_variables(&self) -> PathBuf {
        self.directory.join("uefi-variables.fd")
    }

    /// Which CPUs, pages and devices of the host it has. Written before the domain is defined.
    pub fn topology(&self) -> PathBuf {
        self.directory.join("topology.json")
    }

    /// What was done to the guest once.
    pub fn deeds(&self) -> PathBuf {
        self.directory.join("deeds.json")
    }

    /// When the domain was started and asked to stop.
    pub fn power(&self) -> PathBuf {
        self.directory.join("power.json")
    }
}
