//! The same on a domain of libvirt's own, without Virga.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Error, LIMIT, LOOK_AGAIN};
use crate::bench::libvirt::{Own, overlay};
use crate::bench::stage::node::Node;
use crate::bench::stage::{qemu_img, text, virsh};
use crate::{command, file};

const NAME: &str = "bare";
const UUID: &str = "00000000-bbbb-4bbb-8bbb-000000000001";
/// A volume's XML.
pub const DISK: &str = "disk.xml";
/// A network interface's XML.
pub const INTERFACE: &str = "interface.xml";

/// A domain that is as an Instance's.
pub struct Bare {
    node: Arc<Node>,
    /// Where its files are.
    pub folder: PathBuf,
    /// What qemu-img makes its disk with.
    overlay: Vec<String>,
}

impl Bare {
    /// All that it takes but its disk.
    pub fn of(node: &Arc<Node>, uid: &str, directory: &Path) -> Result<Self, Error> {
        let short: String = uid.chars().filter(|c| *c != '-').take(8).collect();
        let xml = virsh::said(node, &["dumpxml", "--inactive", &format!("virga-{short}")])?;
        let network = xml
            .split("<source network='")
            .nth(1)
            .and_then(|rest| rest.split('\'').next());
        let network = network
            .ok_or_else(|| Error::unreadable("virsh dumpxml", &xml))?
            .to_owned();
        let xml: Vec<&str> = xml
            .lines()
            .filter(|line| !line.trim().starts_with("<mac address="))
            .collect();
        let mut info = Command::new("qemu-img");
        info.args(["info", "--force-share", "--output=json"])
            .arg(directory.join("root.qcow2"));
        let info = command::text(&mut info, LIMIT).map_err(command::failed("asking for a disk's image"))?;
        let (backing, format, size) = overlay(&info).ok_or_else(|| Error::unreadable("qemu-img info", &info))?;
        let backing = fs::canonicalize(&backing).map_err(file::failed("finding", &backing))?;
        let folder = node.data().join(NAME);
        file::make_folder(&folder)?;
        let seed = folder.join("seed.iso");
        fs::copy(directory.join("seed.iso"), &seed).map_err(file::failed("copying", &seed))?;
        let base = folder.join("base");
        if !base.exists() {
            std::os::unix::fs::symlink(&backing, &base).map_err(file::failed("linking", &base))?;
        }
        let own = Own {
            name: NAME,
            uuid: UUID,
            folder: &text(&folder),
        };
        let xml = own.renamed(&xml.join("\n"), &text(directory), uid);
        file::write(
            &folder.join("domain.xml"),
            xml.ok_or_else(|| Error::unreadable("virsh dumpxml", uid))?,
        )?;
        let volume = folder.join("volume.qcow2");
        qemu_img(&["create", "-q", "-f", "qcow2", &text(&volume), "1M"])?;
        let disk = format!(
            "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}'/>\
             <target dev='vdx' bus='virtio'/></disk>",
            text(&volume)
        );
        file::write(&folder.join(DISK), disk)?;
        let interface = format!(
            "<interface type='network'><mac address='fa:16:3e:ff:00:01'/><source network='{network}'/><model type='virtio'/>\
             </interface>"
        );
        file::write(&folder.join(INTERFACE), interface)?;
        let backup = format!(
            "<domainbackup mode='push'><disks><disk name='vda' type='file'><target file='{}'/><driver type='qcow2'/></disk>\
             </disks></domainbackup>",
            text(&folder.join("backup.qcow2"))
        );
        file::write(&folder.join("backup.xml"), backup)?;
        let overlay = ["create", "-q", "-f", "qcow2", "-F", &format, "-b", &text(&backing)].map(str::to_owned);
        let overlay = overlay
            .into_iter()
            .chain([text(&folder.join("root.qcow2")), size])
            .collect();
        Ok(Self {
            node: Arc::clone(node),
            folder,
            overlay,
        })
    }

    /// One call for the domain.
    pub fn virsh(&self, call: &str) -> Result<Duration, Error> {
        virsh::timed(&self.node, &format!("{call} {NAME}"))
    }

    /// Disk, definition and start.
    pub fn create(&self) -> Result<Duration, Error> {
        Ok(self.disk()? + self.define()? + self.virsh("start")?)
    }

    /// Off by force, and on again.
    pub fn reboot(&self) -> Result<Duration, Error> {
        Ok(self.virsh("destroy")? + self.virsh("start")?)
    }

    /// Plugs one in.
    pub fn attach(&self, device: &str) -> Result<Duration, Error> {
        let file = self.folder.join(device);
        virsh::timed(
            &self.node,
            &format!("attach-device {NAME} {} --live --config", file.display()),
        )
    }

    /// Unplugs it while the domain is off.
    pub fn detach(&self, device: &str) -> Result<Duration, Error> {
        let file = self.folder.join(device);
        virsh::timed(&self.node, &format!("detach-device {NAME} {} --config", file.display()))
    }

    /// A copy of its disk, until it is whole.
    pub fn snapshot(&self) -> Result<Duration, Error> {
        let file = self.folder.join("backup.xml");
        let asked = virsh::timed(&self.node, &format!("backup-begin {NAME} {}", file.display()))?;
        let began = Instant::now();
        let mut waited = Duration::ZERO;
        while !virsh::said(&self.node, &["domjobinfo", NAME])?.contains("None") {
            waited = began.elapsed();
        }
        fs::remove_file(self.folder.join("backup.qcow2")).map_err(file::failed("removing", "a backup"))?;
        Ok(asked + waited)
    }

    /// Asks the guest to shut down, and waits until it has.
    pub fn off(&self) -> Result<Duration, Error> {
        let began = Instant::now();
        let asked = self.virsh("shutdown")?;
        // virsh's own start and end.
        let beside = began.elapsed().saturating_sub(asked);
        while self.node.qemu_pid(NAME).is_some() {
            if began.elapsed() > LIMIT {
                return Err(Error::unreadable("a guest that hears no power button", NAME));
            }
            std::thread::sleep(LOOK_AGAIN / 5);
        }
        Ok(began.elapsed().saturating_sub(beside))
    }

    /// Off, a new disk, and on.
    pub fn rebuild(&self) -> Result<Duration, Error> {
        Ok(self.off()? + self.disk()? + self.virsh("start")?)
    }

    /// Off, another disk, another definition, and on.
    pub fn rescue(&self) -> Result<Duration, Error> {
        Ok(self.off()? + self.disk()? + self.define()? + self.virsh("start")?)
    }

    /// Off, another definition, and on.
    pub fn define_again(&self) -> Result<Duration, Error> {
        Ok(self.off()? + self.define()? + self.virsh("start")?)
    }

    /// Off, and nothing is left.
    pub fn remove(&self) -> Result<Duration, Error> {
        let took = self.off()? + self.virsh("undefine")?;
        let began = Instant::now();
        fs::remove_dir_all(&self.folder).map_err(file::failed("removing", &self.folder))?;
        Ok(took + began.elapsed())
    }

    fn disk(&self) -> Result<Duration, Error> {
        let began = Instant::now();
        let arguments: Vec<&str> = self.overlay.iter().map(String::as_str).collect();
        qemu_img(&arguments)?;
        Ok(began.elapsed())
    }

    fn define(&self) -> Result<Duration, Error> {
        let file = self.folder.join("domain.xml");
        virsh::timed(&self.node, &format!("define {}", file.display()))
    }
}
