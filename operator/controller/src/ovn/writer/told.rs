//! What is said of each object that was written, or could not be?

use std::collections::HashMap;

use uuid::Uuid;
use virga_core::{
    load_balancer,
    router::{Obstacle, Seen},
};
use virga_crds::conditions::Reason;
use virga_ovn::{Wanted, group_of_problem, of_problem};
use virga_ovsdb::reconcile::Problem;

use super::Writer;
use crate::ovn::reports::NetworkReport;

impl Writer {
    pub(super) fn tell_refused(&self, uid: Uuid, message: &str) {
        let reason = Reason::NorthboundConflict;
        if let Some(name) = self.cloud.group_name(uid) {
            let generation = self.cloud.group_generation(uid);
            self.reports.groups.set(uid, name, generation, Some(message.to_owned()));
        }
        if let Some(name) = self.cloud.address_group_name(uid) {
            let generation = self.cloud.group_generation(uid);
            let message = Some(message.to_owned());
            self.reports.address_groups.set(uid, name, generation, message);
        }
        if let Some(name) = self.cloud.router_name(uid) {
            let seen = Seen {
                problem: Some(Obstacle {
                    reason,
                    message: message.to_owned(),
                }),
                ..Seen::default()
            };
            self.reports
                .set_router(uid, name, (self.cloud.router_generation(uid), seen));
        }
        if let Some(name) = self.cloud.load_balancer_name(uid) {
            let seen = load_balancer::Seen {
                problem: Some(Obstacle {
                    reason,
                    message: message.to_owned(),
                }),
                ..load_balancer::Seen::default()
            };
            let generation = self.cloud.load_balancer_generation(uid);
            self.reports.balancers.set(uid, name, generation, seen);
        }
        if let Some(name) = self.cloud.name(uid) {
            let report = NetworkReport {
                generation: self.cloud.generation(uid),
                problem: Some((reason, message.to_owned())),
            };
            self.reports.set_network(uid, name, &report);
        }
    }

    /// Says why the database takes no writes, if it doesn't, and has those look again that wait for it.
    pub(super) fn set_down(&self, down: Option<String>) {
        if self.reports.down() == down {
            return;
        }
        self.reports.set_down(
            down,
            self.cloud.waiting(),
            self.cloud.waiting_routers(),
            self.cloud.waiting_floating_ips(),
        );
        self.cloud
            .waiting_load_balancers()
            .for_each(|name| self.reports.balancers.wake(name));
        self.cloud
            .waiting_groups()
            .for_each(|name| self.reports.groups.wake(name));
        self.cloud
            .waiting_address_groups()
            .for_each(|name| self.reports.address_groups.wake(name));
    }

    pub(super) fn report(&mut self, wanted: &Wanted, problems: &[Problem]) {
        for problem in problems.iter().filter(|problem| !self.told.contains(problem)) {
            tracing::warn!(%problem, "a row of OVN's north-bound database can't be as it should");
        }
        if wanted.everything {
            self.told = problems.to_vec();
        } else {
            // Until everything is looked at, which is soon.
            self.told.extend_from_slice(problems);
        }
        let mut of_networks: HashMap<Uuid, String> = HashMap::new();
        let mut of_ports: HashMap<Uuid, (Uuid, String)> = HashMap::new();
        for problem in problems {
            let Some(about) = of_problem(problem) else { continue };
            let text = problem.to_string();
            if let Some(port) = about.port {
                of_ports.entry(port).or_insert((about.network, text));
            } else {
                of_networks.entry(about.network).or_insert(text);
            }
        }
        for (network, generation) in &wanted.networks {
            let Some(name) = self.cloud.name(*network) else {
                self.reports.forget_network(*network);
                self.reports.forget_router(*network);
                self.reports.forget_floating_ip(*network);
                self.reports.balancers.forget(*network);
                continue;
            };
            let refused = wanted.refused.get(network);
            let problem = refused
                .map(|refusal| (refusal.reason, refusal.message.clone()))
                .or_else(|| {
                    let problem = of_networks.remove(network)?;
                    Some((Reason::NorthboundConflict, problem))
                });
            let generation = *generation;
            let report = NetworkReport { generation, problem };
            self.reports.set_network(*network, name, &report);
        }
        for (router, (generation, seen)) in &wanted.routers {
            let Some(name) = self.cloud.router_name(*router) else {
                continue;
            };
            let mut seen = seen.clone();
            if let (None, Some(message)) = (&seen.problem, of_networks.remove(router)) {
                let reason = Reason::NorthboundConflict;
                seen.problem = Some(Obstacle { reason, message });
            }
            self.reports.set_router(*router, name, (*generation, seen));
        }
        for (balancer, (generation, seen)) in &wanted.load_balancers {
            let Some(name) = self.cloud.load_balancer_name(*balancer) else {
                continue;
            };
            let mut seen = seen.clone();
            if let (None, Some(message)) = (&seen.problem, of_networks.remove(balancer)) {
                let reason = Reason::NorthboundConflict;
                seen.problem = Some(Obstacle { reason, message });
            }
            self.reports.balancers.set(*balancer, name, *generation, seen);
        }
        for (floating, (generation, seen)) in &wanted.floating_ips {
            if let Some(name) = self.cloud.floating_ip_name(*floating) {
                self.reports
                    .set_floating_ip(*floating, name, (*generation, seen.clone()));
            }
        }
        self.report_groups(wanted, problems);
        for (port, (network, problem)) in &of_ports {
            if let Some((namespace, name)) = self.cloud.port_name(*network, *port) {
                self.reports.set_problem(*port, (namespace, name), problem.clone());
            }
        }
        for port in self.reports.with_problem() {
            if wanted.everything && !of_ports.contains_key(&port) {
                self.reports.forget_problem(port);
            }
        }
    }

    fn report_groups(&self, wanted: &Wanted, problems: &[Problem]) {
        let about = |problem: &Problem| Some((group_of_problem(problem)?, problem.to_string()));
        let mut of_groups: HashMap<Uuid, String> = problems.iter().filter_map(about).collect();
        for (group, generation) in &wanted.groups {
            let names = (self.cloud.group_name(*group), self.cloud.address_group_name(*group));
            let problem = of_groups.remove(group);
            match names {
                (Some(name), _) => self.reports.groups.set(*group, name, *generation, problem),
                (_, Some(name)) => self.reports.address_groups.set(*group, name, *generation, problem),
                (None, None) => {
                    self.reports.groups.forget(*group);
                    self.reports.address_groups.forget(*group);
                }
            }
        }
    }
}
