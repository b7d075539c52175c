//! Which rows should there be?

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use uuid::Uuid;
use virga_core::{
    floating_ip, load_balancer,
    network::{Segment, ValidNetwork},
    router::Seen,
};
use virga_crds::{Port, PortSecurity, conditions::Reason};
use virga_ovsdb::{northbound::LogicalSwitchPort, reconcile::Desired, table::Ref};

use super::{Cloud, Known, Name, name};
use crate::{
    floating_ip::{Around, ResolvedFloating},
    key,
    router::{self, NetworkSeen},
    security_group::whose_group,
    switch::{self, Beside},
};

/// Why a Network has no rows, or keeps those that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For a condition.
    pub reason: Reason,
    /// The same in words.
    pub message: String,
}

/// What is to be written.
pub struct Wanted {
    /// The rows. It covers what has changed, and leaves the rest as it is.
    pub desired: Desired,
    /// Whether it covers all rows.
    pub everything: bool,
    /// The Networks that it covers, with their generations; none: the Network is gone.
    pub networks: BTreeMap<Uuid, Option<i64>>,
    /// The Routers that it covers, with their generations and what becomes of them.
    pub routers: BTreeMap<Uuid, (Option<i64>, Seen)>,
    /// The FloatingIPs that it covers, likewise.
    pub floating_ips: BTreeMap<Uuid, (Option<i64>, floating_ip::Seen)>,
    /// The LoadBalancers that it covers, likewise.
    pub load_balancers: BTreeMap<Uuid, (Option<i64>, load_balancer::Seen)>,
    /// The SecurityGroups and AddressGroups that it covers, with their generations; none: the group is gone.
    pub groups: BTreeMap<Uuid, Option<i64>>,
    /// Networks that are not as their spec says even when this is written.
    pub refused: BTreeMap<Uuid, Refusal>,
}

impl Cloud {
    /// What is to be written; taken as written. Who fails to write it says so with [`Self::touch`] or
    /// [`Self::touch_everything`].
    pub fn take(&mut self) -> Wanted {
        let everything = std::mem::take(&mut self.everything);
        let changed = std::mem::take(&mut self.changed);
        let scope: BTreeSet<Uuid> = if everything {
            let all = self
                .names
                .keys()
                .copied()
                .chain(self.routers.known.uids())
                .chain(self.floating.known.uids())
                .chain(self.balancers.known.uids());
            all.chain(changed).collect()
        } else {
            changed
        };
        let mut groups = self.groups.take();
        if everything {
            groups.extend(self.groups.all());
        }
        self.wanted(scope, groups, everything)
    }

    /// What is to be written of one Network, Router or SecurityGroup alone; with a Network, the SecurityGroups that its
    /// Ports are in.
    pub fn of(&self, uid: Uuid) -> Wanted {
        // No two objects have one uid, so it counts for one of them.
        self.wanted([uid].into(), [uid].into(), false)
    }

    fn wanted(&self, scope: BTreeSet<Uuid>, mut groups: BTreeSet<Uuid>, everything: bool) -> Wanted {
        let mut networks = BTreeMap::new();
        let mut routers = BTreeMap::new();
        let mut resolved = Vec::new();
        let mut balancers = Vec::new();
        let mut refused = BTreeMap::new();
        let look = |name: &Name| self.look(name);
        // What is invalid now was valid once: its guests keep what they have.
        let mut left_alone = HashSet::new();
        let mut rows = Vec::new();
        let floating = self.leading(&scope, &look);
        for uid in scope {
            if self.floating.known.get(uid).is_some() {
                continue;
            }
            if let Some(router) = self.routers.resolve(uid, &look) {
                if router.chassis.is_none() {
                    left_alone.insert(uid);
                }
                routers.insert(uid, (self.router_generation(uid), seen(&router)));
                resolved.push(router);
                continue;
            }
            if let Some(balancer) = self.balancer(uid, &look) {
                balancers.push(balancer);
                continue;
            }
            let held = self.names.get(&uid).and_then(|name| self.networks.get(name));
            let known = held.and_then(|held| Some((held.network.as_ref()?, &held.ports)));
            networks.insert(uid, known.and_then(|(known, _)| known.object.metadata.generation));
            let Some((known, ports)) = known else { continue };
            groups.extend(ports.values().flat_map(|port| self.groups.of(port)));
            match &known.valid {
                Err(problems) => {
                    left_alone.insert(uid);
                    let message = problems.to_string();
                    refused.insert(
                        uid,
                        Refusal {
                            reason: Reason::Invalid,
                            message,
                        },
                    );
                }
                Ok(valid) => match self.has_before(known, valid) {
                    Some(refusal) => drop(refused.insert(uid, refusal)),
                    None => rows.push((known, valid, ports)),
                },
            }
        }
        let covered: HashSet<Uuid> = networks
            .keys()
            .chain(routers.keys())
            .copied()
            .chain(balancers.iter().map(|balancer| balancer.uid))
            .filter(|uid| !left_alone.contains(uid))
            .collect();
        let covered_groups: HashSet<Uuid> = groups.iter().copied().collect();
        let mut desired = Desired::part(&*self.owner, move |key| {
            if let Some(group) = whose_group(key) {
                return everything || covered_groups.contains(&group);
            }
            key::whose(key).map_or(everything, |whose| {
                covered.contains(&whose.network) || (everything && !left_alone.contains(&whose.network))
            })
        });
        for (known, valid, ports) in rows {
            let mtu = self.backend.mtu(valid).unwrap_or_default();
            let ports: Vec<Arc<Port>> = ports.values().cloned().collect();
            let joints = self.routers.joints(&name(known.object.as_ref()), &look);
            let beside = Beside {
                routers: &joints,
                sharing: self.sharing(&mut desired, &name(known.object.as_ref()), known.uid, &look),
            };
            switch::insert(&mut desired, known.uid, &known.object, valid, mtu, &ports, beside);
        }
        for router in &resolved {
            if let Some(chassis) = &router.chassis {
                let leading = floating.iter().filter(|floating| floating.router == Some(router.uid));
                router::insert(&mut desired, router, chassis, &leading.collect::<Vec<_>>());
            }
        }
        for balancer in &balancers {
            crate::load_balancer::insert(&mut desired, balancer);
        }
        for group in &groups {
            self.groups
                .insert(&mut desired, *group, |network, port| self.secured(network, port));
        }
        let groups = groups.into_iter().map(|group| (group, self.groups.generation(group)));
        Wanted {
            desired,
            everything,
            networks,
            routers,
            floating_ips: floating
                .into_iter()
                .map(|floating| (floating.uid, (floating.generation, floating.seen)))
                .collect(),
            load_balancers: balancers
                .into_iter()
                .map(|balancer| (balancer.uid, (balancer.generation, balancer.seen)))
                .collect(),
            groups: groups.collect(),
            refused,
        }
    }

    /// What the FloatingIPs come to that are meant, or led by a Router that is.
    fn leading(&self, scope: &BTreeSet<Uuid>, look: router::Look<'_>) -> Vec<ResolvedFloating> {
        let namespaces: BTreeSet<String> = scope
            .iter()
            .filter_map(|uid| self.router_name(*uid).or_else(|| self.floating_ip_name(*uid)))
            .map(|(namespace, _)| namespace)
            .collect();
        let of = |namespace: &String| {
            let routers = self.routers_of(namespace, look);
            let plug = |name: &str| self.plug(namespace, name);
            let around = Around {
                look,
                routers: &routers,
                plug: &plug,
                balancer: &|name| {
                    self.balancer(self.balancers.known.named(&(namespace.clone(), name.to_owned()))?, look)
                },
            };
            self.floating.resolve(namespace, &around)
        };
        namespaces.iter().flat_map(of).collect()
    }

    /// A guest's Port.
    pub(super) fn plug(&self, namespace: &str, name: &str) -> Option<Arc<Port>> {
        let own = (namespace.to_owned(), name.to_owned());
        let network = self.places.get(&own)?;
        self.networks.get(network)?.ports.get(&own).cloned()
    }

    /// A Network as Routers see it. One whose piece of the physical network is another's is none to go out by.
    fn look(&self, name: &Name) -> Option<NetworkSeen<'_>> {
        let known = self.networks.get(name)?.network.as_ref()?;
        let valid = known.valid.as_ref().ok();
        let valid = valid.filter(|valid| self.has_before(known, valid).is_none());
        Some(NetworkSeen {
            uid: known.uid,
            valid,
            mtu: valid.and_then(|valid| self.backend.mtu(valid)).unwrap_or_default(),
        })
    }

    /// The row of a Port that groups are for: one of a Network with port security, as far as that has rows.
    fn secured(&self, network: &Name, port: Uuid) -> Option<Ref<LogicalSwitchPort>> {
        let known = self.networks.get(network)?.network.as_ref()?;
        let refused = known
            .valid
            .as_ref()
            .is_ok_and(|valid| self.has_before(known, valid).is_some());
        let secured = known.object.spec.port_security == PortSecurity::Enabled && !refused;
        secured.then(|| Ref::to(key::part(known.uid, port)))
    }

    /// Whether an older Network has the piece of the physical network already.
    fn has_before(&self, known: &Known, valid: &ValidNetwork) -> Option<Refusal> {
        let (_, first) = self.segments.get(&valid.segment)?.first()?;
        if *first == known.uid {
            return None;
        }
        let (namespace, name) = self.names.get(first)?;
        let Segment::Physical { network, vlan } = &valid.segment else {
            return None;
        };
        let piece = vlan.map_or_else(|| "untagged".to_owned(), |tag| format!("VLAN {tag}"));
        let cure = "take another segmentID, or share that Network";
        Some(Refusal {
            reason: Reason::SegmentTaken,
            message: format!("physical network {network}, {piece}, is Network {namespace}/{name}'s: {cure}"),
        })
    }
}

fn seen(router: &router::Resolved) -> Seen {
    let external = router.external().map(|joint| &joint.addresses);
    Seen {
        external: external
            .into_iter()
            .flatten()
            .map(|(address, _)| address.to_string())
            .collect(),
        chassis: router.chassis.clone().unwrap_or_default(),
        networks: router.joined(),
        problem: router.problems.first().cloned(),
    }
}
