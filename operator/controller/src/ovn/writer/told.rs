//! What is said of each object that was written, or could not be?

use std::collections::HashMap;

use uuid::Uuid;
use virga_core::{carried::Obstacle, load_balancer, router};
use virga_crds::conditions::Reason;
use virga_ovn::{Wanted, group_of_problem, of_problem};
use virga_ovsdb::reconcile::Problem;

use super::Writer;

impl Writer {
    pub(super) fn tell_refused(&self, uid: Uuid, message: &str) {
        let problem = || Some(conflict(message.to_owned()));
        if let Some(name) = self.cloud.group_name(uid) {
            let generation = self.cloud.group_generation(uid);
            self.reports.groups.set(uid, owned(name), generation, problem());
        }
        if let Some(name) = self.cloud.address_group_name(uid) {
            let generation = self.cloud.group_generation(uid);
            self.reports.address_groups.set(uid, owned(name), generation, problem());
        }
        if let Some(name) = self.cloud.router_name(uid) {
            let seen = router::Seen {
                problem: problem(),
                ..router::Seen::default()
            };
            let generation = self.cloud.router_generation(uid);
            self.reports.routers.set(uid, name, generation, seen);
        }
        if let Some(name) = self.cloud.load_balancer_name(uid) {
            let seen = load_balancer::Seen {
                problem: problem(),
                ..load_balancer::Seen::default()
            };
            let generation = self.cloud.load_balancer_generation(uid);
            self.reports.balancers.written.set(uid, name, generation, seen);
        }
        if let Some(name) = self.cloud.name(uid) {
            let generation = self.cloud.generation(uid);
            self.reports.networks.set(uid, owned(name), generation, problem());
        }
    }

    /// Says why the database takes no writes, if it doesn't, and has those look again that wait for it.
    pub(super) fn set_down(&self, down: Option<String>) {
        if self.reports.down() == down {
            return;
        }
        self.reports.set_down(down);
        let (cloud, reports) = (&self.cloud, &self.reports);
        cloud.waiting().for_each(|name| reports.networks.wake(owned(name)));
        cloud.waiting_routers().for_each(|name| reports.routers.wake(name));
        let floating = cloud.waiting_floating_ips();
        floating.for_each(|name| reports.floating_ips.wake(name));
        let balancers = cloud.waiting_load_balancers();
        balancers.for_each(|name| reports.balancers.written.wake(name));
        cloud.waiting_groups().for_each(|name| reports.groups.wake(owned(name)));
        let addresses = cloud.waiting_address_groups();
        addresses.for_each(|name| reports.address_groups.wake(owned(name)));
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
                self.reports.networks.forget(*network);
                self.reports.routers.forget(*network);
                self.reports.floating_ips.forget(*network);
                self.reports.balancers.written.forget(*network);
                continue;
            };
            let refused = wanted.refused.get(network);
            let refused = refused.map(|refusal| Obstacle {
                reason: refusal.reason,
                message: refusal.message.clone(),
            });
            let problem = refused.or_else(|| of_networks.remove(network).map(conflict));
            self.reports.networks.set(*network, owned(name), *generation, problem);
        }
        for (router, (generation, seen)) in &wanted.routers {
            let Some(name) = self.cloud.router_name(*router) else {
                continue;
            };
            let mut seen = seen.clone();
            seen.problem = seen.problem.or_else(|| of_networks.remove(router).map(conflict));
            self.reports.routers.set(*router, name, *generation, seen);
        }
        for (balancer, (generation, seen)) in &wanted.load_balancers {
            let Some(name) = self.cloud.load_balancer_name(*balancer) else {
                continue;
            };
            let mut seen = seen.clone();
            seen.problem = seen.problem.or_else(|| of_networks.remove(balancer).map(conflict));
            self.reports.balancers.written.set(*balancer, name, *generation, seen);
        }
        for (floating, (generation, seen)) in &wanted.floating_ips {
            if let Some(name) = self.cloud.floating_ip_name(*floating) {
                self.reports
                    .floating_ips
                    .set(*floating, name, *generation, seen.clone());
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
            let problem = of_groups.remove(group).map(conflict);
            match names {
                (Some(name), _) => self.reports.groups.set(*group, owned(name), *generation, problem),
                (_, Some(name)) => self
                    .reports
                    .address_groups
                    .set(*group, owned(name), *generation, problem),
                (None, None) => {
                    self.reports.groups.forget(*group);
                    self.reports.address_groups.forget(*group);
                }
            }
        }
    }
}

/// Something else has what a row needs.
fn conflict(message: String) -> Obstacle {
    Obstacle {
        reason: Reason::NorthboundConflict,
        message,
    }
}

fn owned((namespace, name): (&str, &str)) -> (String, String) {
    (namespace.to_owned(), name.to_owned())
}
