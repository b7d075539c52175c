//! Security groups: says whether each is in force, keeps those that are in use, and makes each namespace's `default`.
//! Writing them to OVN is [`crate::ovn`]'s.

mod interface;

use std::{future::Future, sync::Arc, time::Duration};

use kube::{
    ResourceExt as _,
    runtime::{Controller, reflector::ObjectRef},
};
use tokio_util::sync::CancellationToken;
use virga_core::{
    carried::Carried,
    network::{Backend, PortSeen},
    security_group::{self, DEFAULT, Remote, Standing},
    uses::TargetKind,
};
use virga_crds::{AddressGroup, Port, PortSecurity, Project, SecurityGroup, conditions::Reason};
use virga_runtime::{
    apply::{self, Writer},
    reconcile::{self, Done, Reconcile, object_ref},
};

use crate::{
    Context,
    ovn::Reports,
    protect,
    stores::{Stores, Watches},
    uses::UseIndex,
};

pub use interface::wrong;

/// How soon to look again for a group that is missing.
pub const AGAIN: Duration = Duration::from_secs(2);

struct SecurityGroups {
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
    let default_of = |project: Arc<Project>| Some(object_ref(Some(&namespace_of(&project)), DEFAULT));
    let store = watches.security_groups.store();
    let groups = store.clone();
    // Those whose rules name what comes or goes.
    let named_by = move |kind: &'static str, namespace: String, name: String| {
        let others = groups.state().into_iter().filter(|other| {
            let own = other.namespace().unwrap_or_default();
            let itself = kind == "SecurityGroup" && own == namespace && other.name_any() == name;
            let mut remotes = security_group::remotes(other);
            !itself && remotes.any(|(_, remote)| remote.place(&own) == (kind, namespace.as_str(), name.as_str()))
        });
        let refs: Vec<_> = others.map(|other| ObjectRef::from_obj(other.as_ref())).collect();
        refs
    };
    let (by_group, by_addresses) = (named_by.clone(), named_by);
    let by_group = move |group: Arc<SecurityGroup>| {
        by_group("SecurityGroup", group.namespace().unwrap_or_default(), group.name_any())
    };
    let by_addresses = move |group: Arc<AddressGroup>| {
        by_addresses("AddressGroup", group.namespace().unwrap_or_default(), group.name_any())
    };
    let controller = Controller::for_shared_stream(watches.security_groups.applied(), store)
        .watches_shared_stream(watches.projects.touched(), default_of)
        .watches_shared_stream(watches.security_groups.touched(), by_group)
        .watches_shared_stream(watches.address_groups.touched(), by_addresses)
        .reconcile_on(uses.touched(TargetKind::SecurityGroup))
        .reconcile_on(reports.groups.touched());
    let metrics = context.metrics.clone();
    let groups = SecurityGroups { context, uses, reports };
    reconcile::run(groups, controller, protect::counting(), metrics, stop)
}

impl Reconcile for SecurityGroups {
    type Kind = SecurityGroup;
    type Error = apply::Error;

    fn name(&self) -> &'static str {
        "securitygroup"
    }

    async fn reconcile(&self, live: Arc<SecurityGroup>) -> Result<Done, apply::Error> {
        let users = self.uses.of(TargetKind::SecurityGroup, live.as_ref()).await;
        let stores = &self.context.stores;
        let namespace = live.namespace().unwrap_or_default();
        let kept_for = (live.name_any() == DEFAULT)
            .then(|| owner(stores, &namespace))
            .flatten();
        let missing = security_group::missing_remotes(&live, |remote| is_there(stores, &namespace, remote)).next();
        let said = live.status.as_ref();
        let said = said.map(|status| (status.observed_generation, status.conditions.as_slice()));
        let carried = match self.context.carrier.northbound {
            Some(_) => self.reports.groups.of(&live.metadata, said, self.reports.down()),
            None => Carried::Seen(None),
        };
        let standing = Standing {
            backend: self.context.carrier.backend,
            carried,
            kept_for: kept_for.as_deref(),
            missing,
        };
        let now = self.context.clock.now();
        let (protection, status) = security_group::plan(&live, &standing, users.iter(), now);
        protect::settle(&self.context.writer, live.as_ref(), &protection, &status).await
    }
}

/// Whether what a rule of a group in this namespace names is there.
pub fn is_there(stores: &Stores, namespace: &str, remote: Remote<'_>) -> bool {
    let (_, namespace, name) = remote.place(namespace);
    match remote {
        Remote::Group(_) => stores.security_group(namespace, name).is_some(),
        Remote::Addresses(_) => stores.address_group(namespace, name).is_some(),
    }
}

/// The Project whose namespace this is, while both are to stay.
fn owner(stores: &Stores, namespace: &str) -> Option<String> {
    let ending = stores
        .namespaces
        .get(&ObjectRef::new(namespace))
        .is_some_and(|found| found.metadata.deletion_timestamp.is_some());
    let projects = stores.projects.state();
    let mut owners = projects
        .iter()
        .filter(|project| project.metadata.deletion_timestamp.is_none() && namespace_of(project) == namespace);
    owners.next().filter(|_| !ending).map(|project| project.name_any())
}

fn namespace_of(project: &Project) -> String {
    project.spec.namespace.clone().unwrap_or_else(|| project.name_any())
}

/// Whether groups are enforced here, and so a namespace needs its `default`.
pub fn are_enforced(context: &Context) -> bool {
    matches!(context.carrier.backend, Backend::Ovn { .. })
}

/// Makes a namespace's `default`, unless it is there. One that somebody else makes at the same time is theirs.
pub async fn make_default(writer: &Writer, stores: &Stores, namespace: &str) -> Result<bool, apply::Error> {
    if stores.security_group(namespace, DEFAULT).is_some() {
        return Ok(false);
    }
    let made = writer.create(&security_group::default_group(namespace)).await?;
    Ok(made.is_some())
}

/// What a Port misses, if one of its groups is not there.
pub fn missing(stores: &Stores, port: &Port) -> Option<PortSeen> {
    let namespace = port.namespace().unwrap_or_default();
    let network = stores.network(port.spec.network_in(&namespace), &port.spec.network)?;
    if network.spec.port_security == PortSecurity::Disabled {
        return None;
    }
    let mut groups = security_group::of_port(&port.spec).into_iter();
    let name = groups.find(|name| stores.security_group(&namespace, name).is_none())?;
    Some(PortSeen::Missing {
        reason: Reason::SecurityGroupNotFound,
        message: format!(
            "spec.securityGroups: SecurityGroup {namespace}/{name} doesn't exist: create it, or name another; until \
             then nothing passes by it"
        ),
    })
}

#[cfg(test)]
mod tests;
