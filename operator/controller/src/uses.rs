//! Who uses what? The index of [`virga_core::uses`], kept from the watches, and the changes that it sees.

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use kube::{
    Resource, ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use virga_core::uses::{Names, Target, TargetKind, User, Uses};
use virga_crds::Network;
use virga_runtime::{reconcile::object_ref, wake::Wakeups, watch::Change};

use crate::stores::{Stores, Watches};

/// How often the index is made anew, for the deletion that a lagging watch may have missed.
const REBUILD: Duration = Duration::from_mins(5);

/// Which objects of a store look again when a Network changes: those that name it.
pub fn naming_network<K>(store: Store<K>) -> impl Fn(Arc<Network>) -> Vec<ObjectRef<K>> + Send + Sync + 'static
where
    K: Names + Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    move |network| {
        let (namespace, name) = (network.namespace().unwrap_or_default(), network.name_any());
        let target = Target::within(TargetKind::Network, &namespace, &name);
        let all = store.state().into_iter();
        let naming = all.filter(|object| object.names().contains(&target));
        naming.map(|object| ObjectRef::from_obj(object.as_ref())).collect()
    }
}

/// The index of who uses what.
pub struct UseIndex {
    uses: RwLock<Uses>,
    complete: watch::Sender<bool>,
    touched: Wakeups<Target>,
}

impl UseIndex {
    /// An index that a task of its own keeps from now on, until `stop` is cancelled.
    pub fn start(watches: &Watches, stop: CancellationToken) -> Arc<Self> {
        let index = Arc::new(Self {
            uses: RwLock::default(),
            complete: watch::Sender::new(false),
            touched: Wakeups::default(),
        });
        let changes = stream::select_all([
            watches.floating_ips.changes().map(named).boxed(),
            watches.instances.changes().map(named).boxed(),
            watches.load_balancers.changes().map(named).boxed(),
            watches.ports.changes().map(named).boxed(),
            watches.routers.changes().map(named).boxed(),
            watches.security_groups.changes().map(named).boxed(),
            watches.volumes.changes().map(named).boxed(),
        ]);
        let keep = index.clone().keep(watches.stores(), changes);
        tokio::spawn(async move { stop.run_until_cancelled_owned(keep).await });
        index
    }

    /// Who names this object (or, for a node, its Hypervisor), in order; waits until the index is complete.
    pub async fn of(&self, kind: TargetKind, object: &impl ResourceExt) -> Vec<User> {
        let target = Target::within(kind, &object.namespace().unwrap_or_default(), &object.name_any());
        // The sender lives as long as we do.
        let _ = self.complete.subscribe().wait_for(|complete| *complete).await;
        self.uses
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .of(&target)
            .cloned()
            .collect()
    }

    /// The same, as far as the index is complete: for those who can't wait, and look again when it is.
    pub fn known(&self, kind: TargetKind, namespace: &str, name: &str) -> Vec<User> {
        let target = Target::within(kind, namespace, name);
        let uses = self.uses.read().unwrap_or_else(PoisonError::into_inner);
        uses.of(&target).cloned().collect()
    }

    /// The objects of one kind whose users change, from now on.
    pub fn touched<K>(&self, kind: TargetKind) -> impl Stream<Item = ObjectRef<K>> + Send + use<K>
    where
        K: kube::Resource<DynamicType = ()> + 'static,
    {
        self.touched.picked(move |target| {
            let namespace = Some(target.namespace.as_str()).filter(|namespace| !namespace.is_empty());
            (target.kind == kind).then(|| object_ref(namespace, &target.name))
        })
    }

    async fn keep(self: Arc<Self>, stores: Stores, changes: impl Stream<Item = (User, BTreeSet<Target>)>) {
        let mut changes = pin!(changes);
        if !stores.synced().await {
            return;
        }
        self.rebuild(&stores);
        self.complete.send_replace(true);
        let mut rebuild = tokio::time::interval(REBUILD);
        rebuild.tick().await;
        loop {
            tokio::select! {
                change = changes.next() => {
                    let Some((user, targets)) = change else { return };
                    let touched = self.uses.write().unwrap_or_else(PoisonError::into_inner).set(&user, targets);
                    for target in touched {
                        self.touched.send(target);
                    }
                }
                _ = rebuild.tick() => self.rebuild(&stores),
            }
        }
    }

    fn rebuild(&self, stores: &Stores) {
        let mut uses = Uses::default();
        let mut add = |object: &dyn Names| drop(uses.set(&object.user(), object.names()));
        stores
            .instances
            .state()
            .iter()
            .for_each(|instance| add(instance.as_ref()));
        stores.ports.state().iter().for_each(|port| add(port.as_ref()));
        stores
            .floating_ips
            .state()
            .iter()
            .for_each(|floating| add(floating.as_ref()));
        stores
            .load_balancers
            .state()
            .iter()
            .for_each(|balancer| add(balancer.as_ref()));
        stores.routers.state().iter().for_each(|router| add(router.as_ref()));
        for group in stores.security_groups.state() {
            add(group.as_ref());
        }
        stores.volumes.state().iter().for_each(|volume| add(volume.as_ref()));
        *self.uses.write().unwrap_or_else(PoisonError::into_inner) = uses;
    }
}

fn named<K: Names>(change: Change<K>) -> (User, BTreeSet<Target>) {
    match change {
        Change::Applied(object) => (object.user(), object.names()),
        Change::Deleted(object) => (object.user(), BTreeSet::new()),
    }
}
