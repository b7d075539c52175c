//! Who has which address? One allocator a Network, in the leader's memory, made from the Ports and from what was given
//! but shows in no Port yet.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use virga_core::{
    network::{
        AddressError, Allocated, NetworkAddresses, Purpose, ValidNetwork, is_given, is_users, mac_address, validate,
    },
    uses::{TargetKind, User},
};
use virga_crds::{Network, Port};

use crate::{stores::Stores, uses::UseIndex};

/// The allocators of all Networks.
#[derive(Default)]
pub struct Ipam {
    networks: Mutex<HashMap<String, Allocator>>,
}

/// What a Port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It is an Instance's plug, and goes with it.
    Plug,
    /// A user made it: it stays, whoever has it.
    Kept,
    /// It is an address of something else.
    Address(Purpose),
}

/// Whose a Port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// What it is for.
    pub purpose: Use,
    /// The holder's namespace; of a Port that a user made, its own.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Holder {
    /// Whose this Port is.
    fn of(port: &Port) -> Self {
        let (purpose, namespace, name) = match Purpose::of(port) {
            Some((purpose, holder)) => (Use::Address(purpose), holder.namespace.clone(), holder.name.clone()),
            None if is_users(&port.spec) => return Self::itself(port),
            None => (
                Use::Plug,
                port.namespace().unwrap_or_default(),
                port.spec.instance.clone(),
            ),
        };
        Self {
            purpose,
            namespace,
            name,
        }
    }

    /// Of a Port that a user made.
    pub fn itself(port: &Port) -> Self {
        Self {
            purpose: Use::Kept,
            namespace: port.namespace().unwrap_or_default(),
            name: port.name_any(),
        }
    }

    fn is_there(&self, stores: &Stores) -> bool {
        let (namespace, name) = (&self.namespace, &self.name);
        match self.purpose {
            Use::Plug => stores.instance(namespace, name).is_some(),
            Use::Kept => stores.port(namespace, name).is_some(),
            Use::Address(Purpose::Router) => stores.router(namespace, name).is_some(),
            Use::Address(Purpose::FloatingIp) => stores.floating_ip(namespace, name).is_some(),
            Use::Address(Purpose::Vip | Purpose::HealthCheck) => stores.load_balancer(namespace, name).is_some(),
        }
    }
}

/// Who takes addresses: a Port, for its holder, and what it wants.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// `namespace/name` of the Port.
    pub port: &'a str,
    /// Whose it will be.
    pub holder: &'a Holder,
    /// What names the interface for ever: its MAC address is made from it.
    pub seed: &'a str,
    /// The addresses that it must have: a plug at most one of each subnet, all else one.
    pub addresses: &'a [IpAddr],
    /// The MAC address that it must be.
    pub mac: Option<&'a str>,
}

/// What a Port is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// One address of each family that the Network has.
    pub addresses: Vec<Allocated>,
    /// A MAC address that no other Port of the Network has.
    pub mac: String,
}

/// What a Port has.
#[derive(Clone, Debug)]
struct Held {
    holder: Holder,
    addresses: Vec<IpAddr>,
    mac: String,
}

struct Allocator {
    /// The Network that it was made for, as it was then.
    uid: Option<String>,
    generation: Option<i64>,
    addresses: NetworkAddresses,
    /// The Port that has each MAC address.
    macs: HashMap<String, String>,
    /// What was given and shows in no Port yet, by Port.
    given: HashMap<String, Held>,
}

impl Ipam {
    /// Makes the allocator of a Network anew from its Ports, and returns a copy to count in.
    ///
    /// What was given for somebody who is no more, and never became a Port, is free again.
    pub fn refresh(
        &self,
        network: &Network,
        valid: &ValidNetwork,
        users: &[User],
        stores: &Stores,
    ) -> NetworkAddresses {
        let ports = ports(users, stores);
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        let given = networks.remove(&key(network)).map(|old| old.given).unwrap_or_default();
        let given = given
            .into_iter()
            .filter(|(port, held)| !ports.contains_key(port) && held.holder.is_there(stores));
        let allocator = Allocator::new(network, valid, &ports, given.collect());
        let addresses = allocator.addresses.clone();
        networks.insert(key(network), allocator);
        addresses
    }

    /// A Port is gone: what was given to it is free when it shows in no book any more.
    pub fn forget(&self, port: &Port) {
        let namespace = port.namespace().unwrap_or_default();
        let network = format!("{}/{}", port.spec.network_in(&namespace), port.spec.network);
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = networks.get_mut(&network) {
            known.given.remove(&format!("{namespace}/{}", port.name_any()));
        }
    }

    /// Takes addresses for a Port: those that it wants, or free ones. The same Port gets the same again.
    pub async fn take(
        &self,
        network: &Network,
        claim: Claim<'_>,
        uses: &UseIndex,
        stores: &Stores,
    ) -> Result<Given, Untaken> {
        if let Some(given) = self.allocate(network, claim) {
            return given.map_err(Untaken::Address);
        }
        let valid = validate(&network.spec).map_err(|problems| Untaken::Network(format!("is invalid: {problems}")))?;
        let named_by = uses.of(TargetKind::Network, network).await;
        self.refresh(network, &valid, &named_by, stores);
        let given = self.allocate(network, claim);
        let given = given.ok_or_else(|| Untaken::Network("has just changed".into()))?;
        given.map_err(Untaken::Address)
    }

    /// `None`: there is no allocator for the Network as it is now; [`Self::refresh`] makes one.
    fn allocate(&self, network: &Network, claim: Claim<'_>) -> Option<Result<Given, AddressError>> {
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        let of_now = |known: &&mut Allocator| {
            known.uid == network.metadata.uid && known.generation == network.metadata.generation
        };
        let allocator = networks.get_mut(&key(network)).filter(of_now)?;
        Some(allocator.allocate(claim))
    }
}

/// Why nothing was taken.
pub enum Untaken {
    /// The Network can't be taken from now, in words that follow its name.
    Network(String),
    /// The addresses, or the MAC address, can't be had.
    Address(AddressError),
}

/// Why an address can't be had, for somebody of this namespace: whose it is in another one is not for everybody to know.
pub fn for_namespace(error: &AddressError, namespace: &str) -> String {
    let theirs = |owner: &str| owner.split('/').next() != Some(namespace);
    match error {
        AddressError::Taken { ip, owner } if theirs(owner) => {
            format!("{ip} is taken; choose another, or leave the address out")
        }
        AddressError::MacTaken { mac, owner } if theirs(owner) => {
            format!("{mac} is taken; choose another, or leave it out")
        }
        error => error.to_string(),
    }
}

impl Allocator {
    fn new(
        network: &Network,
        valid: &ValidNetwork,
        ports: &HashMap<String, Held>,
        given: HashMap<String, Held>,
    ) -> Self {
        let mut addresses = NetworkAddresses::new(valid);
        let mut macs = HashMap::new();
        for (port, held) in ports.iter().chain(&given) {
            held.addresses.iter().for_each(|ip| addresses.adopt(port, *ip));
            macs.insert(held.mac.clone(), port.clone());
        }
        Self {
            uid: network.metadata.uid.clone(),
            generation: network.metadata.generation,
            addresses,
            macs,
            given,
        }
    }

    fn allocate(&mut self, claim: Claim<'_>) -> Result<Given, AddressError> {
        let free = |mac: &String| self.macs.get(mac).is_none_or(|port| port == claim.port);
        let made = || {
            (0..=u32::MAX)
                .map(|attempt| mac_address(claim.seed, attempt))
                .find(free)
                .unwrap_or_default()
        };
        let mac = claim.mac.map_or_else(made, str::to_owned);
        if let Some(owner) = self.macs.get(&mac).filter(|owner| *owner != claim.port) {
            let owner = owner.clone();
            return Err(AddressError::MacTaken { mac, owner });
        }
        let one = claim.addresses.first().copied();
        let addresses = match claim.holder.purpose {
            Use::Plug | Use::Kept => self.addresses.allocate_for(claim.port, claim.addresses, &mac)?,
            // What it leads to by IPv6 has an address that is known outside already.
            Use::Address(Purpose::FloatingIp) => self.addresses.allocate_one(claim.port, one)?,
            Use::Address(_) => self.addresses.allocate(claim.port, one)?,
        };
        self.macs.insert(mac.clone(), claim.port.to_owned());
        let held = Held {
            holder: claim.holder.clone(),
            addresses: addresses.iter().map(|address| address.ip).collect(),
            mac: mac.clone(),
        };
        self.given.insert(claim.port.to_owned(), held);
        Ok(Given { addresses, mac })
    }
}

/// What a Network's Ports have, by the Ports' names.
fn ports(users: &[User], stores: &Stores) -> HashMap<String, Held> {
    let ports = users.iter().filter(|user| user.kind == "Port");
    let ports = ports.filter_map(|user| {
        stores
            .ports
            .get(&ObjectRef::<Port>::new(&user.name).within(&user.namespace))
    });
    let held = |port: &Port| Held {
        holder: Holder::of(port),
        addresses: port
            .spec
            .addresses
            .iter()
            .filter_map(|address| address.ip.parse().ok())
            .collect(),
        mac: port.spec.mac.clone(),
    };
    // What one asks for that has not got it may be another's.
    ports
        .filter(|port| is_given(&port.spec))
        .map(|port| {
            (
                format!("{}/{}", port.namespace().unwrap_or_default(), port.name_any()),
                held(&port),
            )
        })
        .collect()
}

fn key(network: &Network) -> String {
    format!("{}/{}", network.namespace().unwrap_or_default(), network.name_any())
}
