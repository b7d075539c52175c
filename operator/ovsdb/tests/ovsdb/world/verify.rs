//! Does a database have exactly the rows of a world? Independent of how they were planned.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;
use virga_ovsdb::{
    northbound::NbGlobal,
    reconcile::{KEY, MARK, OWNER},
    replica::{Replica, Row},
    table::Table,
    value::{Atom, Value},
};

use super::{OURS, Rows, World};

impl World {
    /// Whether our rows in a database are these and no others. Independent of how they were planned.
    pub fn verify(&self, replica: &Replica) {
        let mut keys = HashMap::new();
        for row in replica.tables().flat_map(|table| replica.rows(table.spec.name)) {
            keys.extend(key_of(row).map(|key| (row.uuid(), key)));
        }
        macro_rules! verify {
            ($($rows:ident),*) => { $( verify_table(replica, &keys, &self.$rows); )* };
        }
        verify!(
            acls,
            address_sets,
            balancers,
            balancer_groups,
            bands,
            checks,
            dhcp,
            dns,
            gateways,
            groups,
            ha_groups,
            ha_hosts,
            meters,
            nat,
            ports,
            qos,
            router_ports,
            routers,
            routes,
            switches
        );
        for (_, wanted) in &self.global {
            let (_, found) = replica.read::<NbGlobal>().next().unwrap();
            let found = found.unwrap();
            assert!(wanted.options.iter().all(|(k, v)| found.options.get(k) == Some(v)));
        }
    }
}

/// The key of a row of ours.
pub fn key_of(row: &Row) -> Option<String> {
    if row.table().spec.name == "Load_Balancer_Group" {
        return row.name()?.strip_prefix(OURS)?.strip_prefix(':').map(str::to_owned);
    }
    (row.external_id(OWNER)? == OURS).then(|| row.external_id(KEY).unwrap_or_default().to_owned())
}

fn verify_table<T: Table>(replica: &Replica, keys: &HashMap<Uuid, String>, wanted: &Rows<T>) {
    let table = T::SPEC.name;
    let found: BTreeMap<&str, _> = replica
        .rows(table)
        .filter_map(|row| Some((keys.get(&row.uuid())?.as_str(), row)))
        .collect();
    let ours = replica.rows(table).filter(|row| keys.contains_key(&row.uuid())).count();
    assert_eq!(ours, wanted.len(), "{table}: {:?}", found.keys());
    for (key, row) in wanted {
        let found = T::read(found[key.as_str()]).unwrap();
        let found: BTreeMap<_, _> = found.desired().into_iter().collect();
        for (column, value) in row.desired() {
            let here = plain(&found[column], keys);
            assert_eq!(here, value, "{table} {key} {column}");
        }
    }
}

/// A value with keys for UUIDs, without our marks and without what is somebody else's.
fn plain(value: &Value, keys: &HashMap<Uuid, String>) -> Value {
    let atom = |atom: &Atom| match atom {
        Atom::Uuid(uuid) => keys.get(uuid).map(|key| Atom::Named(key.as_str().into())),
        other => Some(other.clone()),
    };
    match value {
        Value::Set(set) => Value::Set(set.iter().filter_map(atom).collect()),
        Value::Map(map) => {
            let ours = |(key, _): &&(Atom, Atom)| matches!(key, Atom::String(key) if !key.starts_with(MARK));
            let kept = map.iter().filter(ours).cloned();
            // Only keys of other types, or without our mark: QoS has text keys too, and none begins with the mark.
            Value::Map(kept.collect())
        }
        Value::Atom(other) => Value::Atom(other.clone()),
    }
}
