//! A node's switch: what its database says at the node's first boot.
//!
//! The database is written while no server has it open, so that the switch finds everything at its start and nothing has
//! to be set up in an order. It is on the node's disk: later boots find what was added meanwhile.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::central::create_database;
use super::wires::{OUTSIDE_PORT, TUNNEL_PORT, tunnel_address, tunnel_mac};
use super::{Daemon, Error, Ovn};
use crate::command::{self, SHORT};
use crate::fabric::CONTROL_PLANE;
use crate::layout;

/// The schema of the switch's database in Debian's packages.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// The bridge with the node's cable for tunnels.
pub const TUNNEL_BRIDGE: &str = "br-phy";

/// The bridge with the node's cable to the physical network.
const OUTSIDE_BRIDGE: &str = "br-ex";

/// The bridge that ovn-controller fills.
const INTEGRATION_BRIDGE: &str = "br-int";

/// Makes the database of a node's switch.
pub fn create(node: u8, database: &Path) -> Result<(), Error> {
    create_database(database, Path::new(SCHEMA))?;
    let mut transact = Command::new("ovsdb-tool");
    transact.arg("transact").arg(database).arg(first_boot(node).to_string());
    command::run(&mut transact, SHORT)?;
    Ok(())
}

/// The transaction that fills an empty database (RFC 7047, section 4.1.3).
fn first_boot(node: u8) -> Value {
    let name = layout::node_name(node);
    let south_bound = Daemon::SouthBound.port().unwrap_or_default();
    let external_ids = json!([
        "map",
        [
            ["system-id", name],
            ["hostname", name],
            ["ovn-remote", format!("tcp:{CONTROL_PLANE}:{south_bound}")],
            ["ovn-encap-type", "geneve"],
            ["ovn-encap-ip", tunnel_address(node).to_string()],
            ["ovn-bridge", INTEGRATION_BRIDGE],
            ["ovn-bridge-datapath-type", "netdev"],
            [
                "ovn-bridge-mappings",
                format!("{}:{OUTSIDE_BRIDGE}", Ovn::PHYSICAL_NETWORK)
            ],
        ]
    ]);
    // The kernel's half of the cable answers for the switch's address too: both must have the same one.
    let mac = json!(["map", [["hwaddr", tunnel_mac(node)]]]);
    let bridges = [
        (TUNNEL_BRIDGE, Some(TUNNEL_PORT), "standalone", mac),
        (OUTSIDE_BRIDGE, Some(OUTSIDE_PORT), "standalone", json!(["map", []])),
        // Until ovn-controller has put in flows nothing passes.
        (INTEGRATION_BRIDGE, None, "secure", json!(["map", []])),
    ];
    let mut transaction = vec![
        json!("Open_vSwitch"),
        json!({"op": "insert", "table": "Open_vSwitch", "row": {
            "external_ids": external_ids,
            "bridges": ["set", [named("bridge", TUNNEL_BRIDGE), named("bridge", OUTSIDE_BRIDGE),
                named("bridge", INTEGRATION_BRIDGE)]],
        }}),
    ];
    for (bridge, cable, fail_mode, other_config) in bridges {
        let ports: Vec<Value> = [bridge]
            .into_iter()
            .chain(cable)
            .map(|port| named("port", port))
            .collect();
        transaction.push(
            json!({"op": "insert", "table": "Bridge", "uuid-name": row("bridge", bridge), "row": {
                "name": bridge,
                "datapath_type": "netdev",
                "fail_mode": fail_mode,
                "other_config": other_config,
                "ports": ["set", ports],
            }}),
        );
        // A bridge has a port of its own name, which is the machine's way into it.
        for (port, kind) in [(Some(bridge), "internal"), (cable, "system")] {
            let Some(port) = port else { continue };
            transaction.push(
                json!({"op": "insert", "table": "Port", "uuid-name": row("port", port), "row": {
                    "name": port,
                    "interfaces": named("interface", port),
                }}),
            );
            transaction.push(
                json!({"op": "insert", "table": "Interface", "uuid-name": row("interface", port), "row": {
                    "name": port,
                    "type": kind,
                }}),
            );
        }
    }
    Value::Array(transaction)
}

/// The name of a row within the transaction: letters, digits and underlines.
fn row(kind: &str, name: &str) -> String {
    format!("{kind}_{}", name.replace('-', "_"))
}

fn named(kind: &str, name: &str) -> Value {
    json!(["named-uuid", row(kind, name)])
}
