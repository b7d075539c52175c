//! Which nodes are lost, and who must know?

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::Stream;
use kube::{Resource, runtime::reflector::ObjectRef};
use tokio::time::Instant;
use virga_core::{hypervisor::HEARTBEAT_LIMIT, uses::User};
use virga_crds::{Instance, Volume};
use virga_runtime::wake::Wakeups;

use crate::Context;

/// The nodes that are lost, as this process sees it.
#[derive(Default)]
pub struct Lost {
    nodes: Mutex<Nodes>,
    woken: Wakeups<User>,
}

#[derive(Default)]
struct Nodes {
    lost: HashSet<String>,
    /// When a node was first looked for in vain.
    sought: HashMap<String, Instant>,
}

/// Whether the node is no hypervisor any more: its agent is not heard of, and an operator has deleted its Hypervisor.
pub fn is_decommissioned(node: &str, context: &Context) -> bool {
    let silence = context.scheduler.silence(node);
    let silent = silence.is_none_or(|silence| silence >= HEARTBEAT_LIMIT);
    silent && context.stores.hypervisors.get(&ObjectRef::new(node)).is_none()
}

impl Lost {
    /// Whether the node's agent is not heard of.
    pub fn is_lost(&self, node: &str) -> bool {
        self.nodes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .lost
            .contains(node)
    }

    /// For how long the node has been silent.
    pub(super) fn silence(&self, node: &str, heard: Option<Duration>, now: Instant) -> Duration {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(silence) = heard {
            nodes.sought.remove(node);
            return silence;
        }
        let since = *nodes.sought.entry(node.to_owned()).or_insert(now);
        now.saturating_duration_since(since)
    }

    /// Takes note. Returns whether it is news.
    pub(super) fn set(&self, node: &str, lost: bool) -> bool {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if lost {
            nodes.lost.insert(node.to_owned())
        } else {
            nodes.lost.remove(node)
        }
    }

    /// Wakes the loops of these.
    pub(super) fn wake(&self, users: &[User]) {
        for user in users {
            self.woken.send(user.clone());
        }
    }

    /// The Instances to look at again.
    pub fn instances(&self) -> impl Stream<Item = ObjectRef<Instance>> + Send + use<> {
        self.of("Instance")
    }

    /// The Volumes to look at again.
    pub fn volumes(&self) -> impl Stream<Item = ObjectRef<Volume>> + Send + use<> {
        self.of("Volume")
    }

    fn of<K: Resource<DynamicType = ()> + 'static>(
        &self,
        kind: &'static str,
    ) -> impl Stream<Item = ObjectRef<K>> + Send + use<K> {
        self.woken
            .picked(move |user| (user.kind == kind).then(|| ObjectRef::new(&user.name).within(&user.namespace)))
    }
}
