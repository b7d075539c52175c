//! How full are the hosts?

use std::collections::BTreeMap;

use serde::Serialize;
use virga_scheduler::Cluster;

use crate::words::fill;

/// What of a host is given out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostUse {
    /// The host.
    pub name: String,
    /// Its availability zone.
    pub zone: String,
    /// How many Instances it has.
    pub instances: u32,
    /// Virtual CPUs.
    pub vcpus: Amount,
    /// Memory, in bytes.
    pub memory: Amount,
    /// Disk, in bytes.
    pub disk: Amount,
    /// Units of the operators' own resource classes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub units: BTreeMap<String, Amount>,
}

/// How much is given out, and how much can be: what the host has, less what is reserved, times the allocation ratio.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Given out.
    pub used: u128,
    /// The most that can be.
    pub limit: u128,
}

impl Amount {
    /// How full: 1 is full.
    pub fn fill(self) -> f64 {
        fill(self.used, self.limit)
    }
}

impl HostUse {
    /// Of each host, by name.
    pub fn of(cluster: &Cluster) -> Vec<Self> {
        let of_host = |host: &virga_scheduler::Host| {
            let usage = cluster.usage(&host.name);
            let limit = cluster.limit(&host.name).unwrap_or_default();
            let used = cluster.units_used(&host.name);
            let units = host.inventories.iter().map(|(class, inventory)| {
                let amount = Amount {
                    used: used.get(class.as_str()).copied().unwrap_or(0),
                    limit: u128::from(inventory.limit()),
                };
                (class.clone(), amount)
            });
            Self {
                name: host.name.clone(),
                zone: cluster.zone_of(&host.name).unwrap_or(&host.zone).to_owned(),
                instances: usage.instances,
                vcpus: Amount {
                    used: usage.vcpus.into(),
                    limit: limit.vcpus.into(),
                },
                memory: Amount {
                    used: usage.memory_bytes,
                    limit: limit.memory_bytes.into(),
                },
                disk: Amount {
                    used: usage.disk_bytes,
                    limit: limit.disk_bytes.into(),
                },
                units: units.collect(),
            }
        };
        let mut all: Vec<Self> = cluster.hosts().map(of_host).collect();
        all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        all
    }
}
