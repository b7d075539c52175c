//! Instances: look, decide, act, tell; until there is nothing to do.

mod apply;
mod boot_image;
mod deeds_record;
mod devices;
mod domain_spec;
mod fetch;
mod machine;
mod power_record;
mod publish;
mod root_disk;
mod root_record;
mod root_seen;
mod seed;
mod shelved;

use std::{sync::Arc, time::Duration};

use uuid::Uuid;
use virga_core::{
    condition::is_true,
    instance::{Effect, Plan, after_failure, deleted, plan},
};
use virga_crds::{Instance, InstanceStatus, conditions::types};
use virga_runtime::reconcile::{Done, Reconcile};

pub use boot_image::BootImage;
pub use publish::Published;
pub use root_record::read as read_root_record;

use crate::{
    effect,
    host::Host,
    migration,
    reconcile::{self, Error},
    userdata,
};
use publish::Outcome;

/// How many rounds of looking and acting one reconcile makes before others get their turn.
const ROUNDS: usize = 6;
/// How soon the next reconcile is when rounds ran out.
const NEXT_TURN: Duration = Duration::from_millis(100);
/// How often a Secret that doesn't exist yet is asked for.
const SECRET_AGAIN: Duration = Duration::from_secs(10);

/// The loop over the Instances that are bound to this node.
pub struct InstanceLoop {
    host: Host,
    published: Published,
}

impl InstanceLoop {
    /// The loop on this host.
    pub fn new(host: Host, published: Published) -> Self {
        Self { host, published }
    }

    /// Carries effects out, up to the first that fails. Networks come up while disk and domain are made, and are there
    /// before a guest is started.
    async fn carry_out(
        &self,
        instance: &Instance,
        uid: Uuid,
        effects: &[Effect],
    ) -> Result<(), (Effect, effect::Error)> {
        let start = effects.iter().position(Effect::is_in_turn).unwrap_or(effects.len());
        let (preparing, starting) = effects.split_at(start);
        let (networks, machine): (Vec<_>, Vec<_>) = preparing
            .iter()
            .partition(|effect| matches!(effect, Effect::EnsureNetwork { .. }));
        // One that fails does not end the other: an effect under way is not to be dropped.
        let (machine, networks) = tokio::join!(
            self.one_by_one(instance, uid, machine),
            self.one_by_one(instance, uid, networks)
        );
        machine.and(networks)?;
        self.one_by_one(instance, uid, starting.iter().collect()).await
    }

    async fn one_by_one(
        &self,
        instance: &Instance,
        uid: Uuid,
        effects: Vec<&Effect>,
    ) -> Result<(), (Effect, effect::Error)> {
        for effect in effects {
            if let Err(error) = apply::carry_out(&self.host, instance, uid, effect).await {
                return Err((effect.clone(), error));
            }
        }
        Ok(())
    }

    /// Tells the user of work that begins, while it begins. Work that goes on, or is tried again, was told of: why it
    /// failed is not to be replaced by hope on each try.
    async fn announce(&self, instance: &Instance, status: Option<&InstanceStatus>) -> Option<Box<Instance>> {
        let (old, status) = (instance.status.as_ref(), status?);
        let told = old.is_some_and(|old| {
            old.observed_generation == status.observed_generation
                && old.state == status.state
                && is_true(&old.conditions, types::RECONCILING)
        });
        if told {
            return None;
        }
        match self.published.publish(&self.host, instance, status, false).await {
            Ok(Outcome::Written(written)) => Some(written),
            Ok(Outcome::Same | Outcome::Later(_)) => None,
            // The end of the work is told of again.
            Err(error) => {
                tracing::debug!(error = virga_runtime::class::chain(&error), "telling of work under way");
                None
            }
        }
    }

    async fn tell(&self, instance: &Instance, status: &InstanceStatus, done: Done) -> Result<Done, Error> {
        match self.published.publish(&self.host, instance, status, false).await? {
            Outcome::Written(_) | Outcome::Same => Ok(done),
            Outcome::Later(wait) => Ok(done.again_in(wait)),
        }
    }
}

impl Reconcile for InstanceLoop {
    type Kind = Instance;
    type Error = Error;

    fn name(&self) -> &'static str {
        "instance"
    }

    async fn reconcile(&self, object: Arc<Instance>) -> Result<Done, Error> {
        let uid = reconcile::uid(object.as_ref())?;
        let _turn = self.host.turns.take(uid).await;
        if self.host.stores.instance(&uid.to_string()).is_none() {
            // It was bound to another host, or went, while it waited for its turn.
            return Ok(Done::unchanged());
        }
        if let Err(source) = migration::land(&self.host.layout, uid).await {
            let source = effect::Error::io("putting what came from another host in its place")(source);
            return Err(Error::Effect {
                effect: "LandGuest",
                source,
            });
        }
        if migration::is_awaited(&self.host, uid) {
            // The Migration tells when it has come.
            return Ok(Done::waiting());
        }
        let mut instance = self.published.newest(&object);
        let mut changed = false;
        for _ in 0..ROUNDS {
            let seen = fetch::seen(&self.host, &instance, uid).await;
            let now = self.host.clock.now();
            let Plan { effects, status, again } = plan(&instance, &seen, now);
            if effects.is_empty() {
                let done = if changed { Done::changed() } else { Done::unchanged() };
                let done = again.map_or(done, |again| done.again_in(again));
                return match status {
                    Some(status) => self.tell(&instance, &status, done).await,
                    None => Ok(done),
                };
            }
            changed = true;
            let (told, result) = tokio::join!(
                self.announce(&instance, status.as_ref()),
                self.carry_out(&instance, uid, &effects)
            );
            if let Some(told) = told {
                instance = *told;
            }
            if let Err((effect, error)) = result {
                if let Some(status) = &status {
                    let status = after_failure(&instance, status, &effect, &error.failure(), self.host.clock.now());
                    // The failure itself is what is reported; the next pass tells of it again if this fails.
                    let _ = self.published.publish(&self.host, &instance, &status, true).await;
                }
                // Nothing tells of a Secret that comes: it is asked for now and then.
                if let effect::Error::UserData(userdata::Error::NotFound(_)) = error {
                    return Ok(Done::waiting().again_in(SECRET_AGAIN));
                }
                return Err(Error::Effect {
                    effect: effect.name(),
                    source: error,
                });
            }
            if effects.contains(&Effect::RemoveFinalizer) {
                publish::log_action(&instance, &deleted(&instance, self.host.clock.now()));
                return Ok(Done::changed());
            }
        }
        Ok(Done::changed().again_in(NEXT_TURN))
    }
}
