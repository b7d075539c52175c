//! What may be created, changed and deleted? The HTTPS server that the API server asks, and that agents fetch user data
//! and their certificates from.
//!
//! | path | asked by | answered by |
//! |---|---|---|
//! | `/validate` | the API server, for each create, update and delete of our kinds | every replica, see [`validate`] |
//! | `/guard` | the API server, for Instances and Volumes that name a node, and Ports | every replica, see [`guard`] |
//! | `/schedule` | the API server, for each Instance that is created | the leader, see [`schedule`] |
//! | `/userdata/{namespace}/{name}`, `/adminpassword/{namespace}/{name}` | agents | every replica, see [`userdata`] |
//! | `/certificate` | agents | every replica, see [`certificate`] |

mod caller;
pub mod certificate;
pub mod guard;
pub mod review;
pub mod schedule;
mod server;
pub mod userdata;
pub mod validate;

use std::sync::Arc;

use kube::Client;
use prometheus_client::registry::Registry;
pub use server::serve;

use virga_core::network::Backend;

use crate::{Context, certs::Signer, scheduling::Scheduler, stores::Stores};

/// Who is who, as the API server names users.
#[derive(Debug, Clone)]
pub struct Identities {
    /// The controller itself: `system:serviceaccount:<namespace>:<name>`.
    pub controller: String,
    /// The agents.
    pub agent: String,
}

/// What the webhooks know.
#[derive(Clone)]
pub struct Webhooks {
    client: Client,
    stores: Stores,
    backend: Backend,
    scheduler: Arc<Scheduler>,
    identities: Arc<Identities>,
    signer: Signer,
    metrics: server::Metrics,
}

impl Webhooks {
    /// The webhooks of a process.
    pub fn new(context: &Context, identities: Identities, signer: Signer, registry: &mut Registry) -> Self {
        Self {
            client: context.client.clone(),
            stores: context.stores.clone(),
            backend: context.carrier.backend,
            scheduler: context.scheduler.clone(),
            identities: Arc::new(identities),
            signer,
            metrics: server::Metrics::register(registry),
        }
    }
}
