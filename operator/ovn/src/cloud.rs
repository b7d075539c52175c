//! What does the cluster want, and what of it has changed since it was last written?

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use kube::ResourceExt as _;
use uuid::Uuid;
use virga_core::{
    floating_ip,
    network::{Backend, Segment, ValidNetwork, validate},
    problem::Problems,
    router::Seen,
};
use virga_crds::{FloatingIP, Instance, Network, Port, PortSecurity, Router, SecurityGroup, conditions::Reason};
use virga_ovsdb::{northbound::LogicalSwitchPort, reconcile::Desired, table::Ref};

use crate::{
    GatewayHosts,
    floating_ip::{Around, First, FloatingIps, ResolvedFloating},
    key,
    router::{self, NetworkSeen, Routers},
    security_group::{Groups, whose_group},
    switch,
};

/// `namespace`, `name`.
type Name = (String, String);
/// Who had it first: the time of creation, then the uid.
type Age = (i64, Uuid);

/// All Networks and Ports of the cluster, by Network, and all SecurityGroups.
pub struct Cloud {
    owner: Box<str>,
    backend: Backend,
    networks: BTreeMap<Name, Held>,
    /// Where each uid is: rows are known by uids, and objects by names.
    names: BTreeMap<Uuid, Name>,
    /// Who has, or wants, each piece of a physical network.
    segments: BTreeMap<Segment, BTreeSet<Age>>,
    groups: Groups,
    routers: Routers,
    floating: FloatingIps,
    /// Networks, FloatingIPs and Routers whose rows may differ from what they should be.
    changed: BTreeSet<Uuid>,
    /// Whether all rows may, also those of Networks that nobody knows any more.
    everything: bool,
}

#[derive(Default)]
struct Held {
    network: Option<Known>,
    ports: BTreeMap<String, Arc<Port>>,
}

struct Known {
    uid: Uuid,
    object: Arc<Network>,
    valid: Result<ValidNetwork, Problems>,
}

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
    /// The SecurityGroups that it covers, with their generations; none: the group is gone.
    pub groups: BTreeMap<Uuid, Option<i64>>,
    /// Networks that are not as their spec says even when this is written.
    pub refused: BTreeMap<Uuid, Refusal>,
}

impl Cloud {
    /// A cloud without Networks, of which nothing was written yet. `owner` is this installation's name for its rows.
    pub fn new(owner: impl Into<Box<str>>, backend: Backend) -> Self {
        Self {
            owner: owner.into(),
            backend,
            networks: BTreeMap::new(),
            names: BTreeMap::new(),
            segments: BTreeMap::new(),
            routers: Routers::default(),
            floating: FloatingIps::default(),
            groups: Groups::default(),
            changed: BTreeSet::new(),
            everything: true,
        }
    }

    /// A Network is there, new or changed. What only its status says does not count.
    pub fn set_network(&mut self, network: &Arc<Network>) {
        let Some(uid) = uid(network.as_ref()) else { return };
        let name = name(network.as_ref());
        let known = self.networks.get(&name).and_then(|held| held.network.as_ref());
        if known.is_some_and(|known| known.uid == uid && is_as_before(&known.object, network)) {
            return;
        }
        self.forget(&name);
        let mut valid = validate(&network.spec);
        if let Ok(found) = &valid
            && let Err(problems) = self.backend.check(found)
        {
            valid = Err(problems);
        }
        if let Ok(ValidNetwork { segment, .. }) = &valid
            && *segment != Segment::Overlay
        {
            let wanting = self.segments.entry(segment.clone()).or_default();
            wanting.insert((created(network), uid));
            self.changed.extend(wanting.iter().map(|(_, uid)| uid));
        }
        self.names.insert(uid, name.clone());
        self.changed.extend(self.routers.on(&name));
        self.networks.entry(name).or_default().network = Some(Known {
            uid,
            object: network.clone(),
            valid,
        });
        self.changed.insert(uid);
    }

    /// A Network is gone.
    pub fn remove_network(&mut self, network: &Network) {
        let name = name(network);
        let known = self.networks.get(&name).and_then(|held| held.network.as_ref());
        // Another one may have its name by now.
        if known.is_some_and(|known| Some(known.uid) == uid(network)) {
            self.forget(&name);
        }
    }

    fn forget(&mut self, name: &Name) {
        let Some(held) = self.networks.get_mut(name) else {
            return;
        };
        let Some(known) = held.network.take() else { return };
        if held.ports.is_empty() {
            self.networks.remove(name);
        }
        self.names.remove(&known.uid);
        self.changed.insert(known.uid);
        self.changed.extend(self.routers.on(name));
        if let Ok(ValidNetwork { segment, .. }) = &known.valid
            && let Some(wanting) = self.segments.get_mut(segment)
        {
            wanting.remove(&(created(&known.object), known.uid));
            self.changed.extend(wanting.iter().map(|(_, uid)| uid));
            if wanting.is_empty() {
                self.segments.remove(segment);
            }
        }
    }

    /// A Router is there, new or changed. What only its status says does not count.
    pub fn set_router(&mut self, router: &Arc<Router>) {
        let touched = self.routers.set(router);
        self.stir(touched);
    }

    /// A Router is gone.
    pub fn remove_router(&mut self, router: &Router) {
        let touched = self.routers.remove(router);
        self.stir(touched);
    }

    /// A FloatingIP is there, new or changed. What only its status says does not count.
    pub fn set_floating_ip(&mut self, floating: &Arc<FloatingIP>) {
        let changed = self.floating.set(floating);
        self.stir_floating(&floating.namespace().unwrap_or_default(), changed);
    }

    /// A FloatingIP is gone.
    pub fn remove_floating_ip(&mut self, floating: &FloatingIP) {
        let changed = self.floating.remove(floating);
        self.stir_floating(&floating.namespace().unwrap_or_default(), changed);
    }

    /// An Instance is there, new or changed. Only which interface is its first one counts.
    pub fn set_instance(&mut self, instance: &Instance) {
        let first = instance.spec.interfaces.first();
        let first = first.map_or(First::None, |interface| First::In(interface.network.clone()));
        self.instance(instance, Some(&first));
    }

    /// An Instance is gone.
    pub fn remove_instance(&mut self, instance: &Instance) {
        self.instance(instance, None);
    }

    fn instance(&mut self, instance: &Instance, first: Option<&First>) {
        let namespace = instance.namespace().unwrap_or_default();
        let changed = self
            .floating
            .set_instance(&(namespace.clone(), instance.name_any()), first);
        self.stir_floating(&namespace, changed);
    }

    /// These FloatingIPs may lead elsewhere now, by another Router of their namespace.
    fn stir_floating(&mut self, namespace: &str, changed: impl IntoIterator<Item = Uuid>) {
        let before = self.changed.len();
        self.changed.extend(changed);
        if self.changed.len() > before {
            self.changed.extend(self.routers.within(namespace));
        }
    }

    /// The record of a FloatingIP's address has changed.
    fn stir_holder(&mut self, changed: Option<Uuid>) {
        let namespace = changed.and_then(|uid| self.floating.get(uid)?.namespace());
        if let Some(namespace) = namespace {
            self.stir_floating(&namespace, changed);
        }
    }

    /// These hosts can be gateways.
    pub fn set_gateway_hosts(&mut self, hosts: GatewayHosts) {
        self.changed.extend(self.routers.set_hosts(hosts));
    }

    /// A Router may differ, its plugs in these Networks too, and what the other Routers there can have.
    fn stir(&mut self, touched: Option<(Uuid, BTreeSet<Name>)>) {
        let Some((router, networks)) = touched else { return };
        self.changed.insert(router);
        for name in networks {
            self.changed.extend(self.routers.on(&name));
            let known = self.networks.get(&name).and_then(|held| held.network.as_ref());
            self.changed.extend(known.map(|known| known.uid));
        }
    }

    fn stir_router(&mut self, router: Option<Uuid>) {
        self.stir(router.map(|router| (router, self.routers.networks(router))));
    }

    /// A Port is there, new or changed.
    pub fn set_port(&mut self, port: &Arc<Port>) {
        if port.spec.router.is_some() {
            let router = self.routers.set_port(port);
            return self.stir_router(router);
        }
        if port.spec.floating_ip.is_some() {
            let holder = self.floating.set_port(port);
            return self.stir_holder(holder);
        }
        let network = (port.namespace().unwrap_or_default(), port.spec.network.clone());
        let held = self.networks.entry(network).or_default();
        let old = held.ports.insert(port.name_any(), port.clone());
        let same = |old: &Arc<Port>| old.metadata.uid == port.metadata.uid && is_same(old, port);
        if old.as_ref().is_some_and(same) {
            return;
        }
        self.changed.extend(held.network.as_ref().map(|known| known.uid));
        self.groups.set_port(old.as_deref(), Some(port));
        let leading = self.floating.to(port);
        self.stir_floating(&port.namespace().unwrap_or_default(), leading);
    }

    /// A Port is gone.
    pub fn remove_port(&mut self, port: &Port) {
        if port.spec.router.is_some() {
            let router = self.routers.remove_port(port);
            return self.stir_router(router);
        }
        if port.spec.floating_ip.is_some() {
            let holder = self.floating.remove_port(port);
            return self.stir_holder(holder);
        }
        let leading = self.floating.to(port);
        self.stir_floating(&port.namespace().unwrap_or_default(), leading);
        let network = (port.namespace().unwrap_or_default(), port.spec.network.clone());
        let Some(held) = self.networks.get_mut(&network) else {
            return;
        };
        let name = port.name_any();
        if held
            .ports
            .get(&name)
            .is_some_and(|held| held.metadata.uid == port.metadata.uid)
        {
            let old = held.ports.remove(&name);
            self.groups.set_port(old.as_deref(), None);
            match &held.network {
                Some(known) => drop(self.changed.insert(known.uid)),
                None if held.ports.is_empty() => drop(self.networks.remove(&network)),
                None => {}
            }
        }
    }

    /// A SecurityGroup is there, new or changed. What only its status says does not count.
    pub fn set_group(&mut self, group: &Arc<SecurityGroup>) {
        self.groups.set(group);
    }

    /// A SecurityGroup is gone.
    pub fn remove_group(&mut self, group: &SecurityGroup) {
        self.groups.remove(group);
    }

    /// These SecurityGroups are all there are.
    pub fn reset_groups<'a>(&mut self, groups: impl IntoIterator<Item = &'a Arc<SecurityGroup>>) {
        self.groups.reset(groups);
        self.everything = true;
    }

    /// These are all there are. Everything may have changed.
    pub fn reset<'a>(
        &mut self,
        networks: impl IntoIterator<Item = &'a Arc<Network>>,
        ports: impl IntoIterator<Item = &'a Arc<Port>>,
        routers: impl IntoIterator<Item = &'a Arc<Router>>,
        floating: impl IntoIterator<Item = &'a Arc<FloatingIP>>,
        instances: impl IntoIterator<Item = &'a Arc<Instance>>,
    ) {
        let mut fresh = Self::new(&*self.owner, self.backend);
        fresh.set_gateway_hosts(self.routers.hosts().clone());
        fresh.groups = self.groups.without_ports();
        networks.into_iter().for_each(|network| fresh.set_network(network));
        ports.into_iter().for_each(|port| fresh.set_port(port));
        routers.into_iter().for_each(|router| fresh.set_router(router));
        instances.into_iter().for_each(|instance| fresh.set_instance(instance));
        floating
            .into_iter()
            .for_each(|floating| fresh.set_floating_ip(floating));
        *self = fresh;
    }

    /// All rows may differ: the database is another one, or somebody has been at it.
    pub fn touch_everything(&mut self) {
        self.everything = true;
    }

    /// The rows of a Network, Router or SecurityGroup may differ.
    pub fn touch(&mut self, uid: Uuid) {
        self.changed.insert(uid);
        self.groups.touch(uid);
    }

    /// Whether there is something to write.
    pub fn is_dirty(&self) -> bool {
        self.everything || !self.changed.is_empty() || self.groups.is_dirty()
    }

    /// The Networks that wait to be written, as far as they are there: namespace and name.
    pub fn waiting(&self) -> impl Iterator<Item = (&str, &str)> {
        self.names
            .iter()
            .filter(|(uid, _)| self.everything || self.changed.contains(*uid))
            .map(|(_, (namespace, name))| (namespace.as_str(), name.as_str()))
    }

    /// The SecurityGroups that wait to be written, as far as they are there: namespace and name.
    pub fn waiting_groups(&self) -> impl Iterator<Item = (&str, &str)> {
        self.groups.waiting(self.everything)
    }

    /// The namespace and name of a SecurityGroup.
    pub fn group_name(&self, group: Uuid) -> Option<(&str, &str)> {
        self.groups.name(group)
    }

    /// The generation of a SecurityGroup.
    pub fn group_generation(&self, group: Uuid) -> Option<i64> {
        self.groups.generation(group)
    }

    /// The namespace and name of a Network.
    pub fn name(&self, network: Uuid) -> Option<(&str, &str)> {
        let (namespace, name) = self.names.get(&network)?;
        Some((namespace, name))
    }

    /// The Routers that wait to be written: namespace and name.
    pub fn waiting_routers(&self) -> impl Iterator<Item = (String, String)> {
        let waiting = self
            .routers
            .uids()
            .filter(|uid| self.everything || self.changed.contains(uid));
        waiting.filter_map(|uid| self.router_name(uid))
    }

    /// The namespace and name of a Router.
    pub fn router_name(&self, router: Uuid) -> Option<(String, String)> {
        let router = self.routers.get(router)?;
        Some((router.namespace().unwrap_or_default(), router.name_any()))
    }

    /// The generation of a Router.
    pub fn router_generation(&self, router: Uuid) -> Option<i64> {
        self.routers.get(router)?.metadata.generation
    }

    /// The FloatingIPs that wait to be written: namespace and name.
    pub fn waiting_floating_ips(&self) -> impl Iterator<Item = (String, String)> {
        let waiting = self
            .floating
            .uids()
            .filter(|uid| self.everything || self.changed.contains(uid));
        waiting.filter_map(|uid| self.floating_ip_name(uid))
    }

    /// The namespace and name of a FloatingIP.
    pub fn floating_ip_name(&self, floating: Uuid) -> Option<(String, String)> {
        let floating = self.floating.get(floating)?;
        Some((floating.namespace().unwrap_or_default(), floating.name_any()))
    }

    /// The generation of a Network.
    pub fn generation(&self, network: Uuid) -> Option<i64> {
        let known = self.networks.get(self.names.get(&network)?)?.network.as_ref()?;
        known.object.metadata.generation
    }

    /// The namespace and name of a Port of a Network.
    pub fn port_name(&self, network: Uuid, port: Uuid) -> Option<(&str, String)> {
        let place = self.names.get(&network)?;
        let port = self
            .networks
            .get(place)?
            .ports
            .values()
            .find(|found| uid(found.as_ref()) == Some(port))?;
        Some((&place.0, port.name_any()))
    }

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
                .chain(self.routers.uids())
                .chain(self.floating.uids());
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
        let mut refused = BTreeMap::new();
        let look = |name: &Name| self.look(name);
        // What is invalid now was valid once: its guests keep what they have.
        let mut left_alone = HashSet::new();
        let mut rows = Vec::new();
        let floating = self.leading(&scope, &look);
        for uid in scope {
            if self.floating.get(uid).is_some() {
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
            let joints = self.routers.joints(&name(&known.object), &look);
            switch::insert(&mut desired, known.uid, &known.object, valid, mtu, &ports, &joints);
        }
        for router in &resolved {
            if let Some(chassis) = &router.chassis {
                let leading = floating.iter().filter(|floating| floating.router == Some(router.uid));
                router::insert(&mut desired, router, chassis, &leading.collect::<Vec<_>>());
            }
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
            let routers = self.routers.within(namespace).into_iter();
            let routers: Vec<_> = routers.filter_map(|uid| self.routers.resolve(uid, look)).collect();
            let plug = |name: &str| self.plug(namespace, name);
            let around = Around {
                look,
                routers: &routers,
                plug: &plug,
            };
            self.floating.resolve(namespace, &around)
        };
        namespaces.iter().flat_map(of).collect()
    }

    /// A guest's Port.
    fn plug(&self, namespace: &str, name: &str) -> Option<Arc<Port>> {
        let from = (namespace.to_owned(), String::new());
        let mut within = self.networks.range(from..).take_while(|((of, _), _)| of == namespace);
        within.find_map(|(_, held)| held.ports.get(name).cloned())
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

/// Whether two versions of a Network have the same rows, and are told of in the same words.
fn is_as_before(old: &Network, new: &Network) -> bool {
    old.spec == new.spec && old.metadata.generation == new.metadata.generation
}

/// Whether two versions of a Port have the same row. Where it is plugged in is the hosts' to know.
fn is_same(old: &Port, new: &Port) -> bool {
    let (old, new) = (&old.spec, &new.spec);
    old.mac == new.mac
        && old.addresses == new.addresses
        && old.hostname == new.hostname
        && old.instance == new.instance
        && old.security_groups == new.security_groups
        && old.allowed_address_pairs == new.allowed_address_pairs
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

fn name(network: &Network) -> Name {
    (network.namespace().unwrap_or_default(), network.name_any())
}

fn uid(object: &impl kube::ResourceExt) -> Option<Uuid> {
    object.uid()?.parse().ok()
}

fn created(network: &Network) -> i64 {
    let created = network.metadata.creation_timestamp.as_ref();
    created.map_or(i64::MAX, |time| time.0.as_second())
}
