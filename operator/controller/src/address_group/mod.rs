//! Address groups: says whether each is in force, and keeps those that rules name. Writing them to OVN is [`crate::ovn`]'s.

use std::{future::Future, sync::Arc};

use kube::runtime::Controller;
use tokio_util::sync::CancellationToken;
use virga_core::{address_group, carried::Carried, uses::TargetKind};
use virga_crds::AddressGroup;
use virga_runtime::{
    apply,
    reconcile::{self, Done, Reconcile},
};

use crate::{Context, ovn::Reports, protect, stores::Watches, uses::UseIndex};

struct AddressGroups {
    context: Arc<Context>,
    uses: Arc<UseIndex>,
    reports: Arc<Reports>,
}

/// The kind's loop.
pub fn controller(
    context: Arc<Context>,
    watches: &Watches,
    uses: Arc<UseIndex>,
    reports: Arc<Reports>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let watch = &watches.address_groups;
    let controller = Controller::for_shared_stream(watch.applied(), watch.store())
        .reconcile_on(uses.touched(TargetKind::AddressGroup))
        .reconcile_on(reports.address_groups.touched());
    let metrics = context.metrics.clone();
    let groups = AddressGroups { context, uses, reports };
    reconcile::run(groups, controller, protect::counting(), metrics, stop)
}

impl Reconcile for AddressGroups {
    type Kind = AddressGroup;
    type Error = apply::Error;

    fn name(&self) -> &'static str {
        "addressgroup"
    }

    async fn reconcile(&self, live: Arc<AddressGroup>) -> Result<Done, apply::Error> {
        let users = self.uses.of(TargetKind::AddressGroup, live.as_ref()).await;
        let carrier = &self.context.carrier;
        let status = live.status.as_ref();
        let said = status.map(|status| (status.observed_generation, status.conditions.as_slice()));
        let written = match carrier.northbound {
            Some(_) => self
                .reports
                .address_groups
                .of(&live.metadata, said, self.reports.down()),
            None => Carried::Seen(None),
        };
        let now = self.context.clock.now();
        let (protection, status) = address_group::plan(&live, carrier.backend, &written, users.iter(), now);
        protect::settle(&self.context.writer, live.as_ref(), &protection, &status).await
    }
}

#[cfg(test)]
mod tests;
