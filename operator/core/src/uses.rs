//! Who uses what: an index whose answers take as long as they are, however many objects there are.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use virga_crds::{FloatingIP, ImageRef, Instance, LoadBalancer, Port, Router, SecurityGroup, Volume};

use crate::{
    instance::plugs,
    network::is_given,
    security_group::{self, Remote},
};

/// A thing that others name in their spec.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Its kind.
    pub kind: TargetKind,
    /// Its namespace; empty for a Flavor and a node.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The kinds that others name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetKind {
    /// By SecurityGroups.
    AddressGroup,
    /// By Instances.
    Flavor,
    /// By Instances, and by Volumes that are filled with it.
    Image,
    /// By Ports that it has.
    Instance,
    /// By Instances, FloatingIPs, LoadBalancers, Ports and Routers.
    Network,
    /// By Instances and Volumes that are bound to it.
    Node,
    /// By Instances and Ports.
    SecurityGroup,
    /// By Instances.
    ServerGroup,
    /// By Instances.
    Volume,
}

/// An object that names others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct User {
    /// Its kind, as people write it.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The index.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    users: HashMap<Target, BTreeSet<User>>,
    targets: HashMap<User, BTreeSet<Target>>,
}

impl Uses {
    /// Takes note of what a user names now. Returns what it named before or names now.
    pub fn set(&mut self, user: &User, targets: BTreeSet<Target>) -> BTreeSet<Target> {
        let before = self.targets.remove(user).unwrap_or_default();
        for gone in before.difference(&targets) {
            if let Some(users) = self.users.get_mut(gone) {
                users.remove(user);
                if users.is_empty() {
                    self.users.remove(gone);
                }
            }
        }
        for target in &targets {
            self.users.entry(target.clone()).or_default().insert(user.clone());
        }
        let touched = before.union(&targets).cloned().collect();
        if !targets.is_empty() {
            self.targets.insert(user.clone(), targets);
        }
        touched
    }

    /// Forgets a user that is gone. Returns what it named.
    pub fn remove(&mut self, user: &User) -> BTreeSet<Target> {
        self.set(user, BTreeSet::new())
    }

    /// Who names this, in order.
    pub fn of(&self, target: &Target) -> impl Iterator<Item = &User> {
        self.users.get(target).into_iter().flatten()
    }
}

impl Target {
    /// A Flavor.
    pub fn flavor(name: &str) -> Self {
        Self {
            kind: TargetKind::Flavor,
            namespace: String::new(),
            name: name.into(),
        }
    }

    /// A node.
    pub fn node(name: &str) -> Self {
        Self {
            kind: TargetKind::Node,
            namespace: String::new(),
            name: name.into(),
        }
    }

    /// Something in a namespace.
    pub fn within(kind: TargetKind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// An object that can name others.
pub trait Names {
    /// How it is called as a user of others.
    fn user(&self) -> User;
    /// What it names.
    fn names(&self) -> BTreeSet<Target>;
}

impl Names for Instance {
    fn user(&self) -> User {
        user("Instance", &self.metadata)
    }

    fn names(&self) -> BTreeSet<Target> {
        let spec = &self.spec;
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        let within = |kind, name: &str| Target::within(kind, namespace, name);
        let mut targets = BTreeSet::from([Target::flavor(&spec.flavor)]);
        // What it was built with is not to go while it is resized: it may go back.
        let resize = self.status.as_ref().and_then(|status| status.resize.as_ref());
        let sizes = resize.filter(|resize| resize.is_open()).into_iter();
        let sizes = sizes.flat_map(|resize| [&resize.from, &resize.to]);
        let built = self.status.as_ref().and_then(|status| status.flavor.as_ref());
        targets.extend(sizes.chain(built).map(|size| Target::flavor(&size.name)));
        targets.extend(spec.node_name.iter().map(|node| Target::node(node)));
        targets.extend(spec.image.iter().map(|image| image_target(namespace, image)));
        // The root disk of what is shelved.
        let shelved = self
            .status
            .as_ref()
            .and_then(|status| status.shelve.as_ref()?.image.as_deref());
        targets.extend(shelved.map(|image| within(TargetKind::Image, image)));
        let rescue = spec.rescue.iter().filter_map(|rescue| rescue.image.as_ref());
        targets.extend(rescue.map(|image| image_target(namespace, image)));
        // One of another namespace is used by the Port that it let have: who only asks for it doesn't hold it up.
        for nic in plugs(spec).map(|plug| plug.interface) {
            let own = nic.network_in(namespace) == namespace;
            targets.extend(own.then(|| within(TargetKind::Network, &nic.network)));
            let groups = nic.security_groups.iter();
            targets.extend(groups.map(|group| within(TargetKind::SecurityGroup, group)));
        }
        targets.extend(
            spec.server_group
                .iter()
                .map(|group| within(TargetKind::ServerGroup, group)),
        );
        targets.extend(
            spec.volumes
                .iter()
                .map(|volume| within(TargetKind::Volume, &volume.name)),
        );
        targets.extend(spec.boot_volume.iter().map(|volume| within(TargetKind::Volume, volume)));
        targets
    }
}

impl Names for Volume {
    fn user(&self) -> User {
        user("Volume", &self.metadata)
    }

    fn names(&self) -> BTreeSet<Target> {
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        self.spec
            .source
            .iter()
            .map(|source| image_target(namespace, &source.image))
            .collect()
    }
}

impl Names for Router {
    fn user(&self) -> User {
        user("Router", &self.metadata)
    }

    fn names(&self) -> BTreeSet<Target> {
        let own = self.metadata.namespace.as_deref().unwrap_or_default();
        let network = |namespace: &str, name: &str| Target::within(TargetKind::Network, namespace, name);
        let joined = self.spec.networks.iter().map(|joined| network(own, &joined.network));
        let external = self.spec.external_gateway.iter().map(|gateway| {
            let namespace = gateway.network.namespace.as_deref().unwrap_or(own);
            network(namespace, &gateway.network.name)
        });
        joined.chain(external).collect()
    }
}

impl Names for FloatingIP {
    fn user(&self) -> User {
        user("FloatingIP", &self.metadata)
    }

    fn names(&self) -> BTreeSet<Target> {
        let own = self.metadata.namespace.as_deref().unwrap_or_default();
        let network = &self.spec.network;
        let namespace = network.namespace.as_deref().unwrap_or(own);
        // Where it leads to comes and goes without it.
        BTreeSet::from([Target::within(TargetKind::Network, namespace, &network.name)])
    }
}

impl Names for SecurityGroup {
    fn user(&self) -> User {
        user("SecurityGroup", &self.metadata)
    }

    /// Other groups that its rules name may go: they may name each other.
    fn names(&self) -> BTreeSet<Target> {
        let own = self.metadata.namespace.as_deref().unwrap_or_default();
        let remotes = security_group::remotes(self).filter_map(|(_, remote)| match remote {
            Remote::Group(_) => None,
            Remote::Addresses(_) => Some(remote.place(own)),
        });
        remotes
            .map(|(_, namespace, name)| Target::within(TargetKind::AddressGroup, namespace, name))
            .collect()
    }
}

impl Names for LoadBalancer {
    fn user(&self) -> User {
        user("LoadBalancer", &self.metadata)
    }

    fn names(&self) -> BTreeSet<Target> {
        let own = self.metadata.namespace.as_deref().unwrap_or_default();
        // Its members come and go without it.
        let networks = [Some(&self.spec.vip.network), self.spec.members.network.as_ref()];
        let networks = networks.into_iter().flatten();
        networks
            .map(|name| Target::within(TargetKind::Network, own, name))
            .collect()
    }
}

impl Names for Port {
    fn user(&self) -> User {
        user("Port", &self.metadata)
    }

    fn names(&self) -> BTreeSet<Target> {
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        let from = self.spec.network_in(namespace);
        let network = Target::within(TargetKind::Network, from, &self.spec.network);
        // Who only asks for an address of another namespace's doesn't hold it up.
        let network = (from == namespace || is_given(&self.spec)).then_some(network);
        let groups = security_group::of_port(&self.spec).into_iter();
        let groups = groups.map(|group| Target::within(TargetKind::SecurityGroup, namespace, group));
        let instance = Some(&self.spec.instance).filter(|name| !name.is_empty());
        let instance = instance.map(|name| Target::within(TargetKind::Instance, namespace, name));
        groups.chain(network).chain(instance).collect()
    }
}

fn user(kind: &'static str, meta: &ObjectMeta) -> User {
    let namespace = meta.namespace.clone().unwrap_or_default();
    User {
        kind,
        namespace,
        name: meta.name.clone().unwrap_or_default(),
    }
}

fn image_target(namespace: &str, image: &ImageRef) -> Target {
    Target::within(
        TargetKind::Image,
        image.namespace.as_deref().unwrap_or(namespace),
        &image.name,
    )
}

#[cfg(test)]
mod tests {
    use virga_crds::{InstanceSpec, Interface};

    use super::*;

    fn instance(name: &str, flavor: &str, networks: &[&str]) -> Instance {
        let interfaces = networks
            .iter()
            .map(|n| Interface {
                network: (*n).into(),
                ..Interface::default()
            })
            .collect();
        let mut instance = Instance::new(
            name,
            InstanceSpec {
                flavor: flavor.into(),
                interfaces,
                ..InstanceSpec::default()
            },
        );
        instance.metadata.namespace = Some("shop".into());
        instance
    }

    #[test]
    fn what_is_named_knows_by_whom_until_it_is_named_no_more() {
        let mut uses = Uses::default();
        let (one, two) = (
            instance("one", "small", &["front"]),
            instance("two", "small", &["back"]),
        );
        for instance in [&one, &two] {
            uses.set(&instance.user(), instance.names());
        }
        let small = Target::flavor("small");
        let front = Target::within(TargetKind::Network, "shop", "front");
        assert_eq!(
            uses.of(&small).map(ToString::to_string).collect::<Vec<_>>(),
            ["Instance shop/one", "Instance shop/two"]
        );
        assert_eq!(uses.remove(&one.user()), BTreeSet::from([small.clone(), front.clone()]));
        assert_eq!((uses.of(&small).count(), uses.of(&front).count()), (1, 0));
    }

    #[test]
    fn a_port_is_found_by_who_has_it_and_holds_a_network_of_others_up_only_with_an_address() {
        let mut port = Port::new("kept", virga_crds::PortSpec::default());
        port.metadata.namespace = Some("shop".into());
        port.spec.network = "services".into();
        port.spec.network_namespace = Some("infra".into());
        let network = Target::within(TargetKind::Network, "infra", "services");
        let group = Target::within(TargetKind::SecurityGroup, "shop", "default");
        assert_eq!(port.names(), BTreeSet::from([group.clone()]));
        port.spec.allocation = Some(virga_crds::Allocation::Given);
        assert_eq!(port.names(), BTreeSet::from([group.clone(), network.clone()]));
        port.spec.instance = "web-1".into();
        let holder = Target::within(TargetKind::Instance, "shop", "web-1");
        assert_eq!(port.names(), BTreeSet::from([group, network, holder]));
    }

    #[test]
    fn the_flavors_of_a_resize_are_used_until_it_is_final() {
        let size = |name: &str| virga_crds::BuiltFlavor {
            name: name.into(),
            vcpus: 1,
            ..virga_crds::BuiltFlavor::default()
        };
        let at = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
        let mut one = instance("one", "large", &[]);
        let used = |instance: &Instance, name: &str| instance.names().contains(&Target::flavor(name));
        one.status = Some(virga_crds::InstanceStatus {
            flavor: Some(size("small")),
            ..virga_crds::InstanceStatus::default()
        });
        assert!(used(&one, "small") && used(&one, "large"), "not begun yet");
        let status = one.status.as_mut().unwrap();
        status.flavor = Some(size("large"));
        status.resize = Some(Box::new(virga_crds::ResizeStatus {
            from: size("small"),
            to: size("large"),
            at: at.clone(),
            finished_at: Some(at.clone()),
            confirmed_at: None,
            reverted_at: None,
        }));
        assert!(used(&one, "small") && used(&one, "large"), "it may go back");
        let status = one.status.as_mut().unwrap();
        status.resize.as_mut().unwrap().confirmed_at = Some(at);
        assert!(!used(&one, "small") && used(&one, "large"));
    }

    #[test]
    fn an_index_without_users_holds_nothing() {
        let mut uses = Uses::default();
        let one = instance("one", "small", &["front"]);
        uses.set(&one.user(), one.names());
        uses.remove(&one.user());
        assert!(uses.users.is_empty() && uses.targets.is_empty());
    }
}
