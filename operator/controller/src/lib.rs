//! The controller: reconcilers, admission, scheduling.
//!
//! | question | module |
//! |---|---|
//! | which flags does it take? | [`flags`] |
//! | what does the cluster hold? | [`stores`] |
//! | which replica leads, and how do calls find it? | [`leader`] |
//! | how do clients know that they talk to us? | [`certs`] |
//! | what may be created, changed and deleted? | [`webhook`] |
//! | where does an Instance run? | [`scheduling`] |
//! | what does a kind's controller work with? | [`context`] |
//! | what is done about one kind? | the folder of its name |
//! | how does OVN come to know? | [`ovn`] |
//! | who uses what? | `uses` |
//! | what does this very process remember? | [`debug`] |
//!
//! Every replica keeps warm stores and answers the webhooks; only the leader writes. What is left out of this rule is in
//! [`certs`].

mod address_group;
mod addressed;
pub mod certs;
mod connections;
pub mod context;
pub mod debug;
pub mod flags;
mod flavor;
mod floating_ip;
mod host_aggregate;
mod hypervisor;
mod image;
mod instance;
pub mod leader;
mod load_balancer;
mod migration;
mod network;
pub mod ovn;
mod port;
pub mod process;
mod project;
mod protect;
mod router;
pub mod scheduling;
mod security_group;
mod server_group;
pub mod stores;
mod uses;
mod volume;
pub mod webhook;

#[cfg(any(test, feature = "testing"))]
pub mod fixtures;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod world;

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use tokio_util::sync::CancellationToken;

pub use context::Context;
pub use process::run;
use stores::Watches;

/// The loops of all kinds, one line a kind. Each subscribes to what it needs of `watches` now, and runs when this
/// process leads, until `stop` is cancelled.
pub fn controllers(context: &Arc<Context>, watches: &Watches, stop: &CancellationToken) -> Vec<BoxFuture<'static, ()>> {
    let uses = uses::UseIndex::start(watches, stop.clone());
    let lost = Arc::new(hypervisor::Lost::default());
    let ipam = Arc::new(network::Ipam::default());
    let reports = Arc::new(ovn::Reports::default());
    let (context, stop) = (|| context.clone(), || stop.clone());
    let (uses, lost, ipam) = (|| uses.clone(), || lost.clone(), || ipam.clone());
    let leases = || network::Leases::new(context(), uses(), ipam());
    let mut loops = vec![
        address_group::controller(context(), watches, uses(), reports.clone(), stop()).boxed(),
        flavor::controller(context(), watches, uses(), stop()).boxed(),
        floating_ip::controller(context(), watches, leases(), reports.clone(), stop()).boxed(),
        host_aggregate::controller(context(), watches, stop()).boxed(),
        hypervisor::controller(context(), watches, uses(), lost(), stop()).boxed(),
        image::controller(context(), watches, uses(), stop()).boxed(),
        instance::controller(context(), watches, uses(), lost(), ipam(), stop()).boxed(),
        instance::backups::controller(context(), watches, stop()).boxed(),
        instance::shelve::controller(context(), watches, stop()).boxed(),
        load_balancer::controller(context(), watches, leases(), reports.clone(), stop()).boxed(),
        migration::controller(context(), watches, lost(), stop()).boxed(),
        network::controller(context(), watches, uses(), ipam(), reports.clone(), stop()).boxed(),
        port::controller(context(), watches, reports.clone(), ipam(), uses(), stop()).boxed(),
        project::controller(context(), watches, stop()).boxed(),
        router::controller(context(), watches, leases(), reports.clone(), stop()).boxed(),
        security_group::controller(context(), watches, uses(), reports.clone(), stop()).boxed(),
        server_group::controller(context(), watches, uses(), stop()).boxed(),
        volume::controller(context(), watches, uses(), lost(), stop()).boxed(),
    ];
    if let Some(writer) = ovn::writer(&context(), watches, reports, stop()) {
        loops.push(writer.boxed());
    }
    loops
}
