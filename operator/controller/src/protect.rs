//! How is an object that others use kept until they are gone? See [`virga_core::protection`].

use std::{future::Future, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::runtime::Controller;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use virga_core::{
    protection::Protection,
    uses::{TargetKind, User},
};
use virga_crds::finalizers;
use virga_runtime::{
    apply::{Error, Object, Writer},
    reconcile::{self, Done, Reconcile, Settings},
    watch::Watch,
};

use crate::{Context, uses::UseIndex};

/// A kind of which nothing is to be done but to say who uses it, and to keep what is used.
pub struct Protected<K, S> {
    /// What the loop is called in logs and metrics.
    pub name: &'static str,
    /// What the kind is to those who use it.
    pub target: TargetKind,
    /// What to do about an object that these use.
    pub plan: fn(&K, &[User], Timestamp) -> (Protection, S),
    /// What every loop works with.
    pub context: Arc<Context>,
    /// Who uses what.
    pub uses: Arc<UseIndex>,
}

impl<K, S> Protected<K, S>
where
    K: Object + 'static,
    S: Serialize + Send + Sync + 'static,
{
    /// The kind's loop.
    pub fn controller(self, watch: &Watch<K>, stop: CancellationToken) -> impl Future<Output = ()> + Send + use<K, S> {
        let controller =
            Controller::for_shared_stream(watch.applied(), watch.store()).reconcile_on(self.uses.touched(self.target));
        let metrics = self.context.metrics.clone();
        reconcile::run(self, controller, counting(), metrics, stop)
    }
}

impl<K, S> Reconcile for Protected<K, S>
where
    K: Object + 'static,
    S: Serialize + Send + Sync + 'static,
{
    type Kind = K;
    type Error = Error;

    fn name(&self) -> &'static str {
        self.name
    }

    async fn reconcile(&self, live: Arc<K>) -> Result<Done, Error> {
        let users = self.uses.of(self.target, live.as_ref()).await;
        let (protection, status) = (self.plan)(&live, &users, self.context.clock.now());
        settle(&self.context.writer, live.as_ref(), &protection, &status).await
    }
}

/// The bounds of a loop that counts: what it says may lag by a second, so that a burst of Instances costs one write a second.
pub fn counting() -> Settings {
    Settings {
        rest: Duration::from_secs(1),
        ..Settings::default()
    }
}

/// Writes what `protection` asks for and, unless the object goes with it, `status`.
pub async fn settle<K: Object>(
    writer: &Writer,
    live: &K,
    protection: &Protection,
    status: &impl Serialize,
) -> Result<Done, Error> {
    let changed = match protection {
        Protection::Release => writer.remove_finalizer(live, finalizers::CONTROLLER).await?.is_some(),
        Protection::Done => false,
        Protection::Set => {
            let held = writer.add_finalizer(live, finalizers::CONTROLLER).await?.is_some();
            writer.apply_status(live, status).await?.is_some() || held
        }
        Protection::Held | Protection::InUse(_) => writer.apply_status(live, status).await?.is_some(),
    };
    Ok(Done::changed_if(changed))
}
