//! Volumes: look, decide, act, tell.

mod apply;
mod fetch;

use std::sync::Arc;

use virga_core::volume::{Effect, Plan, after_failure, plan};
use virga_crds::Volume;
use virga_runtime::{
    class::chain,
    reconcile::{Done, Reconcile},
};

use crate::{
    host::Host,
    reconcile::{self, Error},
};

/// How many rounds of looking and acting one reconcile makes.
const ROUNDS: usize = 4;

/// The loop over the Volumes that are bound to this node.
pub struct VolumeLoop {
    host: Host,
}

impl VolumeLoop {
    /// The loop on this host.
    pub fn new(host: Host) -> Self {
        Self { host }
    }
}

impl Reconcile for VolumeLoop {
    type Kind = Volume;
    type Error = Error;

    fn name(&self) -> &'static str {
        "volume"
    }

    async fn reconcile(&self, object: Arc<Volume>) -> Result<Done, Error> {
        let uid = reconcile::uid(object.as_ref())?;
        let volume = Volume::clone(&object);
        let mut changed = false;
        for _ in 0..ROUNDS {
            let seen = match fetch::seen(&self.host, &volume, uid).await {
                Ok(seen) => seen,
                Err(source) => return Err(Error::Effect { effect: "Look", source }),
            };
            let now = self.host.clock.now();
            let Plan { effects, status, again } = plan(&volume, &seen, now);
            if effects.is_empty() {
                if let Some(status) = status {
                    changed |= self.host.writer.apply_status(&volume, &status).await?.is_some();
                }
                let done = if changed { Done::changed() } else { Done::unchanged() };
                return Ok(again.map_or(done, |again| done.again_in(again)));
            }
            changed = true;
            for effect in &effects {
                let Err(source) = apply::carry_out(&self.host, &volume, uid, effect).await else {
                    continue;
                };
                if let Some(status) = &status {
                    let failure = source.failure();
                    let status = after_failure(&volume, status, failure.reason, &failure.message, now);
                    if let Err(error) = self.host.writer.apply_status(&volume, &status).await {
                        tracing::debug!(error = chain(&error), "telling of a failure");
                    }
                }
                let effect = effect.name();
                return Err(Error::Effect { effect, source });
            }
            if effects.contains(&Effect::RemoveFinalizer) {
                self.host.claims.forget(uid);
                return Ok(Done::changed());
            }
        }
        Ok(Done::changed().again_in(std::time::Duration::from_secs(1)))
    }
}
