//! OVN: keeps its north-bound database as the Networks, Ports, Routers, LoadBalancers and SecurityGroups say, and says how they are.
//!
//! One task in the leader. It is told of changes by the watches and by the database itself, waits a moment for more, and
//! writes what follows in one transaction. Everything is compared at each new connection and once a minute.

mod balancer_reports;
mod gateways;
mod reports;
mod writer;
mod written;

use std::{future::Future, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use virga_core::network::Backend;

pub use reports::Reports;

use crate::{Context, stores::Watches};

/// Changes that come within this time of each other are one transaction.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// How often everything is compared, for what no watch has told of.
const AUDIT: Duration = Duration::from_mins(1);
/// How long the database may be away before that is said of what waits for it: a leader of it is elected in less.
const GRACE: Duration = Duration::from_secs(5);
/// The first pause after a write that failed; it doubles, up to [`LONGEST_PAUSE`].
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Where OVN is told what to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The north-bound database.
    pub client: virga_ovsdb::Options,
    /// The south-bound database, if gateways are to be found.
    pub southbound: Option<virga_ovsdb::Options>,
    /// The name of this installation's rows in it.
    pub owner: String,
}

/// What carries the networks.
#[derive(Clone, Debug, Default)]
pub struct Carrier {
    /// Which back end.
    pub backend: Backend,
    /// With OVN, where it is told.
    pub northbound: Option<Settings>,
}

/// The task that writes, if networks are OVN's.
pub fn writer(
    context: &Arc<Context>,
    watches: &Watches,
    reports: Arc<Reports>,
    stop: CancellationToken,
) -> Option<impl Future<Output = ()> + Send + use<>> {
    let settings = context.carrier.northbound.clone()?;
    let changes = writer::Changes {
        networks: watches.networks.changes(),
        ports: watches.ports.changes(),
        routers: watches.routers.changes(),
        floating_ips: watches.floating_ips.changes(),
        instances: watches.instances.changes(),
        balancers: watches.load_balancers.changes(),
        groups: watches.security_groups.changes(),
        address_groups: watches.address_groups.changes(),
    };
    let (backend, stores) = (context.carrier.backend, context.stores.clone());
    let leadership = context.leadership.clone();
    Some(writer::run(
        backend, settings, leadership, stores, changes, reports, stop,
    ))
}

#[cfg(test)]
pub(crate) mod tests;
