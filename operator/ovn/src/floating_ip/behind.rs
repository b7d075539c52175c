//! Which members of a LoadBalancer can be behind an address outside?

use std::{collections::BTreeSet, net::IpAddr};

use uuid::Uuid;
use virga_core::carried::Obstacle;
use virga_crds::conditions::Reason;

use super::{Around, ResolvedFloating, between, obstacle, settle};
use crate::{holders::Name, router::Resolved};

/// Has an address lead to a LoadBalancer, by the Router between the outside and its own address.
pub(super) fn lead(
    name: &str,
    namespace: &str,
    outside: &Name,
    around: &Around<'_, '_>,
    resolved: &mut ResolvedFloating,
) -> Result<(), Obstacle> {
    let field = "spec.loadBalancer";
    let mut balancer = (around.balancer)(name).ok_or_else(|| {
        let message = format!("{field}: LoadBalancer {namespace}/{name} doesn't exist: create it, or name another");
        obstacle(Reason::LoadBalancerNotFound, message)
    })?;
    let place = balancer.place.as_ref().ok_or_else(|| {
        let message = format!("{field}: LoadBalancer {namespace}/{name} has no address yet: see its Ready condition");
        obstacle(Reason::WaitingForAddress, message)
    })?;
    let inner = &place.network_name;
    let mut own = place.addresses.iter().map(|(address, _)| *address);
    let address = own.find(IpAddr::is_ipv4).ok_or_else(|| {
        let message = format!("{field}: LoadBalancer {namespace}/{name} has no IPv4 address");
        obstacle(Reason::Invalid, message)
    })?;
    let router = between(around.routers, inner, address, outside).ok_or_else(|| {
        let message = format!(
            "{field}: no Router joins Network {}/{} of LoadBalancer {namespace}/{name} with Network {}/{}: give one both, the \
             first in networks and the second as externalGateway",
            inner.0, inner.1, outside.0, outside.1
        );
        obstacle(Reason::NotRouted, message)
    })?;
    resolved.seen.fixed = Some(address.to_string());
    settle(resolved, router);
    let joints = router.joints.iter().filter(|joint| !joint.external);
    let ranges: Vec<_> = joints
        .flat_map(|joint| &joint.addresses)
        .map(|(_, range)| *range)
        .collect();
    balancer
        .members
        .retain(|member| member.address.is_ipv4() && ranges.iter().any(|range| range.contains(&member.address)));
    resolved.balancer = Some(balancer);
    Ok(())
}

/// Leaves out guests with an address outside that their own host answers for: what they say to clients would leave by that
/// one, and not by the way that it was asked.
pub(super) fn leave_out_distributed(all: &mut [ResolvedFloating], routers: &[Resolved]) {
    let distributed = |uid: Uuid| routers.iter().any(|router| router.uid == uid && router.distributed);
    let own: BTreeSet<(Uuid, IpAddr)> = all
        .iter()
        .filter_map(|floating| Some((floating.router?, floating.whole.as_ref()?.address)))
        .filter(|(router, _)| distributed(*router))
        .collect();
    for floating in all {
        let (Some(router), Some(balancer)) = (floating.router, &mut floating.balancer) else {
            continue;
        };
        let has_own = |address: IpAddr| own.contains(&(router, address));
        let Some(first) = balancer.members.iter().find(|member| has_own(member.address)) else {
            continue;
        };
        let message = format!(
            "spec.loadBalancer: member {} is left out, for it has a FloatingIP of its own by a Router with distribution: \
             Distributed, and would answer by that one: take it away, or set the Router to Centralized",
            first.address
        );
        floating.seen.problem.get_or_insert(obstacle(Reason::Invalid, message));
        balancer.members.retain(|member| !has_own(member.address));
    }
}
