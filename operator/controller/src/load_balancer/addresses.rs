//! Which addresses does a LoadBalancer have? Those that its Ports are the record of.

use std::sync::Arc;

use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use virga_core::{
    load_balancer::{self, Role},
    router::{Need, Obstacle},
};
use virga_crds::{LoadBalancer, Port, conditions::Reason, labels};
use virga_runtime::apply;

use crate::{
    Context,
    network::{Holder, Ipam, Leases},
    uses::UseIndex,
};

pub(super) struct Addresses {
    context: Arc<Context>,
    leases: Leases,
}

impl Addresses {
    pub(super) fn new(context: Arc<Context>, uses: Arc<UseIndex>, ipam: Arc<Ipam>) -> Self {
        let leases = Leases::new(context.clone(), uses, ipam);
        Self { context, leases }
    }

    /// Gives back what the spec asks for no more, and takes what is missing. Returns whether anything was written, and the
    /// first thing in the way.
    pub(super) async fn ensure(&self, balancer: &LoadBalancer) -> Result<(bool, Option<Obstacle>), apply::Error> {
        let needs = load_balancer::needs(balancer);
        let is_needed = |port: &Port| {
            let role = load_balancer::role(port).map(|(role, _)| role);
            let mut of_role = needs.iter().filter(|(needed, _)| Some(*needed) == role);
            of_role.any(|(_, need)| port.spec.network == need.network)
        };
        let mut written = false;
        let ports = self.context.stores.ports.state();
        for port in ports.iter().filter(|port| load_balancer::holds(balancer, port)) {
            if !is_needed(port) && port.metadata.deletion_timestamp.is_none() {
                self.leases.give_back(port).await?;
                written = true;
            }
        }
        let mut obstacle = None;
        for (role, need) in needs {
            match self.ensure_one(balancer, role, need).await? {
                Ok(wrote) => written |= wrote,
                Err(found) => obstacle = obstacle.or(Some(found)),
            }
        }
        Ok((written, obstacle))
    }

    /// Gives everything back. The API server is asked what there is: a Port may be too new for the watch.
    pub(super) async fn release(&self, balancer: &LoadBalancer) -> Result<bool, apply::Error> {
        let uid = balancer.uid().unwrap_or_default();
        let found: Vec<Port> = self.context.writer.labelled(labels::LOAD_BALANCER, &uid).await?;
        let mut released = false;
        for port in found.iter().filter(|port| load_balancer::holds(balancer, port)) {
            self.leases.give_back(port).await?;
            released = true;
        }
        Ok(released)
    }

    async fn ensure_one(
        &self,
        balancer: &LoadBalancer,
        role: Role,
        mut need: Need,
    ) -> Result<Result<bool, Obstacle>, apply::Error> {
        let name = load_balancer::port(balancer, role, &need, String::new(), &[]).name_any();
        let ports = &self.context.stores.ports;
        if let Some(port) = ports.get(&ObjectRef::<Port>::new(&name).within(&need.namespace)) {
            let own = load_balancer::holds(balancer, &port) && port.metadata.deletion_timestamp.is_none();
            return Ok(own.then_some(false).ok_or_else(|| Obstacle {
                reason: Reason::WaitingForAddress,
                message: format!("{}: Port {}/{name} is there still", need.field, need.namespace),
            }));
        }
        if role == Role::Vip {
            // What was told once is for life, even if its record was taken away by hand.
            let told = balancer.status.as_ref().and_then(|status| status.addresses.first());
            need.address = need.address.or_else(|| told?.parse().ok());
        }
        let holder = Holder::LoadBalancer {
            namespace: balancer.namespace().unwrap_or_default(),
            name: balancer.name_any(),
        };
        let uid = balancer.uid().unwrap_or_default();
        let given = match self.leases.take(&need, &holder, &uid, &name).await {
            Ok(given) => given,
            Err(obstacle) => return Ok(Err(obstacle)),
        };
        let port = load_balancer::port(balancer, role, &need, given.mac, &given.addresses);
        Ok(Ok(self.context.writer.apply(None, &port).await?.is_some()))
    }
}
