//! The network between the nodes, the control plane and the machine.
//!
//! A network namespace without a name, kept by a process that sleeps, holds a bridge; every node and the machine have a
//! cable (a veth pair) to it. The control plane runs in that namespace, at the bridge's own address. The machine itself
//! gets one link and one route a node, so that tests reach the apiserver and pods; `ip netns` is not used, because its
//! mounts are copied into the mount namespace of whatever starts later and keep a dead node's network alive.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use crate::command::{self, SHORT};
use crate::layout::{self, Layout};
use crate::processes;
use crate::wait;

/// The machine's link to the lab.
pub const LINK: &str = "virga-lab0";

/// The control plane's address, and the nodes' way to it.
pub const CONTROL_PLANE: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 254);

/// The machine's address in the lab's network.
const MACHINE: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 253);

/// The process that keeps the namespace.
const KEEPER: &str = "fabric";

const BRIDGE: &str = "fabric";

/// A locally administered address: `virga` in ASCII.
const BRIDGE_ADDRESS: &str = "02:76:69:72:67:61";

/// The fabric could not be built or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel's tools refused.
    #[error("building the lab's network")]
    Command(#[from] command::Error),
    /// The log could not be written.
    #[error("building the lab's network: writing its log")]
    Io(#[from] io::Error),
    /// The namespace's keeper is not there.
    #[error("the lab's network is gone: its keeper process is not running")]
    Gone,
}

/// The fabric of a running lab.
#[derive(Debug, Clone, Copy)]
pub struct Fabric {
    keeper: u32,
}

impl Fabric {
    /// Builds namespace, bridge and the machine's cable.
    pub fn build(layout: &Layout, id: &str) -> Result<Self, Error> {
        let fabric = Self {
            keeper: new_namespace(layout, id, KEEPER)?,
        };
        // No spanning tree and no delay: a port carries at once. An address of its own: without one a bridge takes the
        // lowest of its ports', and when that node loses power nobody finds the control plane until their caches expire.
        fabric.ip(&[
            "link",
            "add",
            BRIDGE,
            "address",
            BRIDGE_ADDRESS,
            "type",
            "bridge",
            "forward_delay",
            "0",
            "stp_state",
            "0",
        ])?;
        fabric.ip(&["addr", "add", &format!("{CONTROL_PLANE}/24"), "dev", BRIDGE])?;
        fabric.ip(&["link", "set", BRIDGE, "up"])?;
        let keeper = fabric.keeper.to_string();
        ip(&[
            "link", "add", LINK, "type", "veth", "peer", "name", "machine", "netns", &keeper,
        ])?;
        // Whoever finds the link can tell which lab it belongs to.
        ip(&["link", "set", LINK, "alias", &layout.root().display().to_string()])?;
        fabric.plug("machine")?;
        ip(&["addr", "add", &format!("{MACHINE}/24"), "dev", LINK])?;
        ip(&["link", "set", LINK, "up"])?;
        Ok(fabric)
    }

    /// The fabric of the lab with this id, if it is there.
    pub fn find(id: &str) -> Option<Self> {
        processes::named(id, KEEPER).first().map(|&keeper| Self { keeper })
    }

    /// Gives a node its cable: `eth0` in the node's namespace, named by the first process in it.
    pub fn connect(self, node: u8, init: u32, nodes: u8) -> Result<(), Error> {
        let cable = cable(node);
        let address = layout::node_address(node).to_string();
        let init = init.to_string();
        self.ip(&[
            "link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &init,
        ])?;
        self.plug(&cable)?;
        // OVS in user space drops what still lacks its checksum.
        self.enter(&["ethtool", "-K", &cable, "tx", "off"])?;
        let inside = |args: &[&str]| enter(&init, &[&["ip"], args].concat());
        inside(&["link", "set", "lo", "up"])?;
        inside(&["addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        inside(&["link", "set", "eth0", "up"])?;
        enter(&init, &["ethtool", "-K", "eth0", "tx", "off"])?;
        inside(&["route", "add", "default", "via", &CONTROL_PLANE.to_string()])?;
        for other in (1..=nodes).filter(|&other| other != node) {
            let (network, way) = (layout::pod_network(other), layout::node_address(other).to_string());
            inside(&["route", "add", &network, "via", &way])?;
        }
        let network = layout::pod_network(node);
        self.ip(&["route", "replace", &network, "via", &address])?;
        ip(&["route", "replace", &network, "via", &address, "dev", LINK])
    }

    /// Takes a node's cable away, if it has one; it is named by its end here.
    pub fn disconnect(self, cable: &str) -> Result<(), Error> {
        // The kernel takes it away by itself when the node's namespace has ended, at any moment from now.
        let deleted = self.ip(&["link", "del", cable]);
        if self.ip(&["link", "show", cable]).is_ok() {
            return deleted;
        }
        Ok(())
    }

    /// Begins a command that runs in the fabric's network: what is appended is run, as the same process.
    pub fn inside(self, command: &mut Command) {
        command
            .arg("nsenter")
            .arg(format!("--net=/proc/{}/ns/net", self.keeper));
    }

    fn plug(self, cable: &str) -> Result<(), Error> {
        self.ip(&["link", "set", cable, "master", BRIDGE, "up"])
    }

    /// Runs ip(8) in the fabric's network.
    pub fn ip(self, args: &[&str]) -> Result<(), Error> {
        self.enter(&[&["ip"], args].concat())
    }

    /// Runs a program in the fabric's network.
    pub fn enter(self, args: &[&str]) -> Result<(), Error> {
        enter(&self.keeper.to_string(), args)
    }
}

/// Removes the machine's link if it belongs to the lab in this folder. It also goes by itself, a moment after the last
/// process in the network at its other end.
pub fn remove_link(root: &Path) -> Result<(), Error> {
    let ours = || owner().is_some_and(|owner| Path::new(&owner) == root || owner.is_empty());
    if ours() {
        match ip(&["link", "del", LINK]) {
            Err(error) if ours() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The folder of the lab that the machine's link belongs to; `None` without a link, empty when its maker died between
/// making the link and naming it.
pub fn owner() -> Option<String> {
    let link = Path::new("/sys/class/net").join(LINK);
    let alias = std::fs::read_to_string(link.join("ifalias"));
    link.exists().then(|| alias.unwrap_or_default().trim().to_owned())
}

fn cable(node: u8) -> String {
    layout::node_name(node)
}

fn ip(args: &[&str]) -> Result<(), Error> {
    command::run(Command::new("ip").args(args), SHORT)?;
    Ok(())
}

/// Makes a network namespace, with its loopback interface up, and the process by which it is found; returns that one.
pub fn new_namespace(layout: &Layout, id: &str, name: &str) -> Result<u32, Error> {
    let mut keeper = processes::detached(&layout.log(name))?;
    keeper.args(["unshare", "--net", "sleep", "infinity"]);
    command::run_as_set(processes::mark(&mut keeper, id, name), SHORT)?;
    // Between its start and its call of `unshare` the keeper still is in the machine's namespace.
    let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let has_its_own = |pid: &u32| of(&pid.to_string()) != of("self");
    let keeper = wait::until(SHORT, || processes::named(id, name).into_iter().find(has_its_own)).ok_or(Error::Gone)?;
    enter(&keeper.to_string(), &["ip", "link", "set", "lo", "up"])?;
    Ok(keeper)
}

/// Runs a program in the network of a process.
pub fn enter(pid: &str, args: &[&str]) -> Result<(), Error> {
    command::run(
        Command::new("nsenter")
            .arg(format!("--net=/proc/{pid}/ns/net"))
            .args(args),
        SHORT,
    )?;
    Ok(())
}
