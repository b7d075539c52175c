//! The networks that only OVN uses: one for tunnels between nodes, and the physical network with the outside in it.
//!
//! A switch in user space takes a cable whole: its bridge has the address, and both are gone while the switch is. So
//! tunnels have a cable and addresses of their own, and Kubernetes does not notice what happens to the switch.

use std::net::Ipv4Addr;
use std::process::Command;

use super::Ovn;
use crate::fabric::{self, Error, Fabric};
use crate::layout::{self, Layout};
use crate::processes;

/// A node's port in the network for tunnels.
pub(super) const TUNNEL_PORT: &str = "eth1";

/// A node's port in the physical network.
pub(super) const OUTSIDE_PORT: &str = "eth2";

/// The bridge of the network for tunnels.
const TUNNELS: &str = "tunnels";

/// The process that keeps the outside's namespace, and the outside's cable.
const OUTSIDE: &str = "outside";

/// The name of what others run in the outside's namespace.
const VISITOR: &str = "outside-command";

/// OVN's networks in the fabric of a lab.
#[derive(Debug, Clone, Copy)]
pub struct Wires {
    fabric: Fabric,
}

impl Wires {
    /// Those of this fabric.
    pub fn of(fabric: Fabric) -> Self {
        Self { fabric }
    }

    /// Builds both networks, and the outside.
    pub(super) fn build(self, layout: &Layout, id: &str) -> Result<(), Error> {
        for bridge in [TUNNELS, Ovn::PHYSICAL_NETWORK] {
            let kind = ["type", "bridge", "forward_delay", "0", "stp_state", "0"];
            self.fabric.ip(&[&["link", "add", bridge], &kind[..]].concat())?;
            self.fabric.ip(&["link", "set", bridge, "up"])?;
        }
        let outside = fabric::new_namespace(layout, id, OUTSIDE)?.to_string();
        self.cable(OUTSIDE, Ovn::PHYSICAL_NETWORK, &["name", "eth0", "netns", &outside])?;
        let inside = |args: &[&str]| fabric::enter(&outside, args);
        inside(&["ethtool", "-K", "eth0", "tx", "off"])?;
        for address in Ovn::OUTSIDE {
            // Without looking whether somebody has it already: it would be of no use for two seconds.
            inside(&["ip", "address", "add", address, "dev", "eth0", "nodad"])?;
        }
        for address in Ovn::BEYOND {
            inside(&["ip", "address", "add", address, "dev", "lo"])?;
        }
        inside(&["ip", "link", "set", "eth0", "up"])
    }

    /// Gives a node its cables into both networks; `init` is the first process in it.
    pub fn connect(self, node: u8, init: u32) -> Result<(), Error> {
        let init = init.to_string();
        let inside = |args: &[&str]| fabric::enter(&init, args);
        // The kernel sees what comes on these cables too, and would answer, or send it on, beside the switch.
        inside(&["nft", &own_stack_is_deaf()])?;
        for (port, network, cable) in [
            (TUNNEL_PORT, TUNNELS, tunnel_cable(node)),
            (OUTSIDE_PORT, Ovn::PHYSICAL_NETWORK, outside_cable(node)),
        ] {
            let mac = tunnel_mac(node);
            let mut end = vec!["name", port, "netns", &init];
            if port == TUNNEL_PORT {
                end.extend(["address", &mac]);
            }
            self.cable(&cable, network, &end)?;
            inside(&["ethtool", "-K", port, "tx", "off"])?;
            inside(&["ip", "link", "set", port, "addrgenmode", "none"])?;
            inside(&["ip", "link", "set", port, "arp", "off", "up"])?;
        }
        Ok(())
    }

    /// Takes a node's cables away, if it has them.
    pub fn disconnect(self, node: u8) -> Result<(), Error> {
        self.fabric.disconnect(&tunnel_cable(node))?;
        self.fabric.disconnect(&outside_cable(node))
    }

    fn cable(self, cable: &str, network: &str, end: &[&str]) -> Result<(), Error> {
        let here = ["link", "add", cable, "type", "veth", "peer"];
        self.fabric.ip(&[&here, end].concat())?;
        self.fabric.ip(&["link", "set", cable, "master", network, "up"])?;
        // A switch in user space drops what still lacks its checksum.
        self.fabric.enter(&["ethtool", "-K", cable, "tx", "off"])
    }
}

/// A command that will run outside, and end with the lab if not before.
pub(super) fn outside(id: &str, args: &[&str]) -> Result<Command, Error> {
    let keeper = processes::named(id, OUTSIDE).first().copied().ok_or(Error::Gone)?;
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{keeper}/ns/net")).args(args);
    processes::mark(&mut command, id, VISITOR);
    Ok(command)
}

/// The address of a node's tunnels, in 172.31.1.0/24.
pub fn tunnel_address(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 31, 1, node)
}

/// The hardware address at the end of a node's tunnels: locally administered, and the same after each boot.
pub(super) fn tunnel_mac(node: u8) -> String {
    let [a, b, c, d] = tunnel_address(node).octets();
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

fn tunnel_cable(node: u8) -> String {
    format!("{}-tun", layout::node_name(node))
}

fn outside_cable(node: u8) -> String {
    format!("{}-out", layout::node_name(node))
}

fn own_stack_is_deaf() -> String {
    format!(
        "table inet virga-lab {{ chain ovs {{ type filter hook prerouting priority raw; \
         iifname {{ {TUNNEL_PORT}, {OUTSIDE_PORT} }} drop; }}; }}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_cables_are_names_that_linux_takes() {
        let longest = layout::MAX_NODES;
        assert!(tunnel_cable(longest).len() <= 15 && outside_cable(longest).len() <= 15);
        assert_eq!(tunnel_mac(3), "02:00:ac:1f:01:03");
    }
}
