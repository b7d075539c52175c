//! Which networks does this node carry, and with which ports?

mod desired;
mod error;
mod turns;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube::ResourceExt;
use uuid::Uuid;
use virga_core::{
    network::{Backend, ValidNetwork, holder_uid, is_going, validate},
    problem::Problems,
};
use virga_crds::{Instance, Network, Port};
use virga_network::{Attachment, NetworkBackend, Plug};
use virga_runtime::reconcile::{Done, Reconcile};

pub use error::Error;

use crate::stores::Stores;
use error::uuid;
use turns::Turns;

/// How soon to look again at a network whose last guests are still plugged in.
const IN_USE_AGAIN: Duration = Duration::from_secs(10);

/// The node's networks. Clones share them.
#[derive(Clone)]
pub struct Networks {
    backend: Arc<dyn NetworkBackend>,
    kind: Backend,
    stores: Stores,
    /// One at a time for each network.
    turns: Turns,
    /// Instances whose ports were taken out because they are being deleted.
    released: Arc<Mutex<HashSet<String>>>,
}

impl Networks {
    /// Networks of this back end, which is of this kind.
    pub fn new(backend: Arc<dyn NetworkBackend>, kind: Backend, stores: Stores) -> Self {
        Self {
            backend,
            kind,
            stores,
            turns: Turns::default(),
            released: Arc::default(),
        }
    }

    /// Brings the network of one of an Instance's interfaces up on this node, with all ports that are plugged here.
    pub async fn ensure(&self, instance: &Instance, name: &str) -> Result<Attachment, Error> {
        let network = self
            .stores
            .network_of(instance, name)
            .ok_or_else(|| Error::NotFound(name.to_owned()))?;
        let port = self.stores.port(instance, name);
        let port = port.map(|port| uuid(port.as_ref())).transpose()?;
        self.bring_up(&network, port).await
    }

    /// Takes an Instance's ports out of its networks, and networks that have no other port here away.
    pub async fn release(&self, instance: &Instance) -> Result<(), Error> {
        if let Some(uid) = instance.uid() {
            self.lock_released().insert(uid);
        }
        for interface in &instance.spec.interfaces {
            if let Some(network) = self.stores.network_of(instance, &interface.network) {
                self.settle(&network).await?;
            }
        }
        Ok(())
    }

    /// An Instance is gone: its uid never comes again.
    pub fn forget(&self, uid: &str) {
        self.lock_released().remove(uid);
    }

    /// What a Network's spec says, with the MTU that the back end gives it; or all that is wrong with it.
    pub fn valid(&self, network: &Network) -> Result<ValidNetwork, Problems> {
        let mut valid = validate(&network.spec)?;
        self.kind.check(&valid)?;
        valid.mtu = self.kind.mtu(&valid);
        Ok(valid)
    }

    /// What a Port's interface is plugged into.
    pub fn plug(&self, network: &Network, port: &Port) -> Result<Plug, Error> {
        Ok(self.backend.plug(uuid(network)?, uuid(port)?))
    }

    /// Brings a network to what its ports here ask for: up, or away when there are none.
    async fn settle(&self, network: &Network) -> Result<bool, Error> {
        if !self.ports(network).is_empty() {
            return Ok(self.bring_up(network, None).await?.changed);
        }
        let uid = uuid(network)?;
        let mut turn = self.turns.take(uid).await;
        turn.forget();
        // One may have come while this waited.
        if self.ports(network).is_empty() {
            self.backend.remove(uid).await?;
        }
        Ok(false)
    }

    /// Brings a network up for a Port, or for all.
    async fn bring_up(&self, network: &Network, port: Option<Uuid>) -> Result<Attachment, Error> {
        let mut turn = self.turns.take(uuid(network)?).await;
        let valid = self.valid(network).map_err(|problems| Error::Invalid {
            name: network.name_any(),
            problems,
        })?;
        let desired = desired::node_network(network, valid, &self.ports(network))?;
        let ensured = turn.bring_up(desired, port, async |desired| {
            let attachment = self.backend.ensure(desired).await?;
            if attachment.changed {
                tracing::info!(
                    network = desired.display_name(),
                    ports = desired.ports.len(),
                    "network updated"
                );
            }
            Ok::<_, virga_network::Error>(attachment)
        });
        Ok(ensured.await?)
    }

    /// The ports of a network that are plugged here: those whose Instance is here and stays.
    fn ports(&self, network: &Network) -> Vec<Arc<Port>> {
        let released = self.lock_released().clone();
        let all = self.stores.ports.state();
        let mut ports: Vec<Arc<Port>> = all
            .into_iter()
            .filter(|port| {
                let own = port.namespace().unwrap_or_default();
                port.spec.network == network.name_any()
                    && Some(port.spec.network_in(&own)) == network.metadata.namespace.as_deref()
            })
            .filter(|port| !is_going(port))
            .filter(|port| {
                holder_uid(port).is_some_and(|uid| !released.contains(uid) && self.stores.instance(uid).is_some())
            })
            .collect();
        ports.sort_by_key(|port| port.name_any());
        ports
    }

    /// Removes networks whose Network is gone, or has no port here.
    pub async fn collect(&self) -> Result<usize, Error> {
        let mut removed = 0;
        for held in self.backend.list().await? {
            let network = self
                .stores
                .networks
                .find(|network| network.metadata.uid.as_deref() == Some(held.uid.to_string().as_str()));
            let used = network.is_some_and(|network| !self.ports(&network).is_empty());
            if used {
                continue;
            }
            let mut turn = self.turns.take(held.uid).await;
            turn.forget();
            match self.backend.remove(held.uid).await {
                Err(virga_network::Error::InUse { .. }) => continue,
                result => result?,
            }
            removed += 1;
            tracing::info!(
                namespace = held.namespace,
                name = held.name,
                "removed a network without ports"
            );
        }
        Ok(removed)
    }

    fn lock_released(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.released.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The loop over Networks: a changed spec, a new Port, one that is gone.
pub struct NetworkLoop {
    networks: Networks,
}

impl NetworkLoop {
    /// The loop over these networks.
    pub fn new(networks: Networks) -> Self {
        Self { networks }
    }
}

impl Reconcile for NetworkLoop {
    type Kind = Network;
    type Error = Error;

    fn name(&self) -> &'static str {
        "network"
    }

    async fn reconcile(&self, network: Arc<Network>) -> Result<Done, Error> {
        match self.networks.settle(&network).await {
            Ok(true) => Ok(Done::changed()),
            Ok(false) => Ok(Done::unchanged()),
            Err(Error::Backend(virga_network::Error::InUse { .. })) => Ok(Done::waiting().again_in(IN_USE_AGAIN)),
            Err(error) => Err(error),
        }
    }
}
