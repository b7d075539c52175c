//! Networks that OVN carries.
//!
//! These tests are in one module so that they follow each other: libvirt gives the networks over once.

mod hosts;
mod ipv6;
mod load_balancer;
mod migration;
mod outages;
mod router;
mod samples;
mod security_groups;
mod seen;

use std::process::Command;

use kube::ResourceExt;
use serde_json::json;
use virga_crds::{Instance, Network, Placement, UserData};
use virga_e2e::objects::instance;
use virga_e2e::{BOUND, eventually, on_node};
use virga_lab::{Lab, Ovn, OvnDaemon};

use crate::{GUEST, host};

/// A guest on a node, with an address and what it is to try.
fn plugged_on(flavor: &str, name: &str, node: &str, network: &str, address: &str, script: &str) -> Instance {
    let mut made = instance(name, flavor);
    made.spec.interfaces = serde_json::from_value(json!([{"network": network, "address": address}])).unwrap();
    made.spec.placement = Some(Placement {
        host: Some(node.into()),
        ..Placement::default()
    });
    made.spec.user_data = Some(UserData {
        inline: Some(script.into()),
        secret_ref: None,
    });
    made
}

/// Waits for a line on a guest's console, and returns all that it said.
async fn said(lab: &Lab, instance: &Instance, words: &str) -> String {
    let (node, uid) = (host(lab, instance), instance.uid().unwrap());
    eventually(&format!("{} says {words:?}", instance.name_any()), GUEST, async || {
        let console = on_node::console(&node, &uid);
        if console.contains(words) {
            Ok(console)
        } else {
            Err(console)
        }
    })
    .await
}

/// Runs ovn-nbctl beside the control plane.
fn nbctl(ovn: &Ovn, args: &[&str]) -> String {
    let at = format!("--db={}", ovn.endpoint(OvnDaemon::NorthBound).unwrap());
    let mut command = Command::new("ovn-nbctl");
    let output = command.args([&at, "--timeout=20"]).args(args).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a script outside, and returns what it said.
fn outside(ovn: &Ovn, script: &str) -> Result<String, String> {
    let mut command = ovn.outside(&["timeout", "10", "bash", "-c", script]).unwrap();
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        Ok(said)
    } else {
        Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// Waits until the outside is served a page with these words, at `address` or `address/port`.
async fn serves(ovn: &Ovn, place: &str, words: &str) {
    let (address, port) = place.split_once('/').unwrap_or((place, "80"));
    let get = format!(
        "timeout 5 bash -c 'exec 3<>/dev/tcp/{address}/{port} && printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3 && cat <&3'"
    );
    eventually(&format!("{place} says {words:?}"), BOUND, async || {
        match outside(ovn, &get) {
            Ok(page) if page.contains(words) => Ok(()),
            Ok(other) | Err(other) => Err(other),
        }
    })
    .await;
}

/// The outside as a Network: the physical network of every node, of which the pool is ours.
fn public() -> Network {
    let spec = json!({
        "type": "Flat", "physicalNetwork": Ovn::PHYSICAL_NETWORK, "scope": "External",
        "subnets": [{
            "name": "v4", "cidr": "10.200.0.0/24", "gateway": "10.200.0.1", "dhcp": "Disabled",
            "allocationPools": [{"start": "10.200.0.100", "end": "10.200.0.199"}],
        }],
    });
    Network::new("public", serde_json::from_value(spec).unwrap())
}
