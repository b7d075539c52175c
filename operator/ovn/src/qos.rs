//! Which rows limit and mark what a Port's guest sends and is sent? (ovn-nb(5), QoS)

use uuid::Uuid;
use virga_crds::{BandwidthLimit, Qos};
use virga_ovsdb::{
    northbound::{self, Bandwidth, Direction, QosMark},
    reconcile::Desired,
    table::Ref,
};

use crate::key;

/// Above what a network as a whole could be given.
const PRIORITY: i64 = 2002;

/// Adds the rows of a Port of a network: one for each way of which anything is said.
pub(crate) fn insert(desired: &mut Desired, network: Uuid, port: Uuid, qos: &Qos) -> Vec<Ref<northbound::Qos>> {
    let mark = qos.dscp_mark.map(|mark| (QosMark::Dscp, i64::from(mark)));
    let ways = [
        ("from", Direction::FromPort, "inport", qos.egress, mark),
        ("to", Direction::ToPort, "outport", qos.ingress, None),
    ];
    let mut rows = Vec::new();
    for (part, direction, end, limit, mark) in ways {
        if limit.is_none() && mark.is_none() {
            continue;
        }
        let row = northbound::Qos {
            priority: PRIORITY,
            direction,
            matching: format!("{end} == \"{port}\""),
            action: mark.into_iter().collect(),
            bandwidth: limit.iter().flat_map(said).collect(),
            ..northbound::Qos::default()
        };
        rows.push(desired.insert(key::part(network, format_args!("qos/{port}/{part}")), &row));
    }
    rows
}

fn said(limit: &BandwidthLimit) -> impl Iterator<Item = (Bandwidth, i64)> + use<> {
    let burst = limit.burst_kbit.map(|burst| (Bandwidth::Burst, i64::from(burst)));
    [(Bandwidth::Rate, i64::from(limit.max_kbps))].into_iter().chain(burst)
}
