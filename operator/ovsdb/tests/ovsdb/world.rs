//! Clouds by chance: rows of all tables that refer to each other, and whether a database has exactly them.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use virga_ovsdb::{
    northbound::{
        Acl, AclAction, AddressSet, Bandwidth, DhcpOptions, Direction, Dns, GatewayChassis, HaChassis, HaChassisGroup,
        LoadBalancer, LoadBalancerGroup, LoadBalancerHealthCheck, LogicalRouter, LogicalRouterPort,
        LogicalRouterStaticRoute, LogicalSwitch, LogicalSwitchPort, Meter, MeterBand, Nat, NatType, NbGlobal,
        PortGroup, Qos,
    },
    reconcile::Desired,
    table::{Keep, Ref, Table},
};

mod verify;

pub use verify::key_of;

pub const OURS: &str = "virga-test";

type Rows<T> = Vec<(String, T)>;

#[derive(Debug, Default)]
pub struct World {
    acls: Rows<Acl>,
    address_sets: Rows<AddressSet>,
    balancers: Rows<LoadBalancer>,
    balancer_groups: Rows<LoadBalancerGroup>,
    bands: Rows<MeterBand>,
    checks: Rows<LoadBalancerHealthCheck>,
    dhcp: Rows<DhcpOptions>,
    dns: Rows<Dns>,
    gateways: Rows<GatewayChassis>,
    global: Rows<NbGlobal>,
    groups: Rows<PortGroup>,
    ha_groups: Rows<HaChassisGroup>,
    ha_hosts: Rows<HaChassis>,
    meters: Rows<Meter>,
    nat: Rows<Nat>,
    ports: Rows<LogicalSwitchPort>,
    qos: Rows<Qos>,
    router_ports: Rows<LogicalRouterPort>,
    routers: Rows<LogicalRouter>,
    routes: Rows<LogicalRouterStaticRoute>,
    switches: Rows<LogicalSwitch>,
}

fn texts(rng: &mut Rng, what: &str) -> BTreeMap<String, String> {
    let some = (0..4).filter(|_| rng.bool()).collect::<Vec<_>>();
    some.iter()
        .map(|at| (format!("{what}{at}"), rng.u8(0..3).to_string()))
        .collect()
}

fn some<T>(rng: &mut Rng, rows: &Rows<T>) -> BTreeSet<Ref<T>> {
    rows.iter()
        .filter(|_| rng.bool())
        .map(|(key, _)| Ref::to(key.as_str()))
        .collect()
}

fn one<T>(rng: &mut Rng, rows: &Rows<T>) -> Option<Ref<T>> {
    let at = rng.usize(0..=rows.len());
    rows.get(at).map(|(key, _)| Ref::to(key.as_str()))
}

/// Gives each of some rows to one of some parents.
fn share<T>(rng: &mut Rng, rows: &Rows<T>, parents: usize) -> Vec<BTreeSet<Ref<T>>> {
    let mut shares: Vec<BTreeSet<Ref<T>>> = (0..parents).map(|_| BTreeSet::new()).collect();
    for (key, _) in rows {
        if let Some(share) = rng.choice(&mut shares) {
            share.insert(Ref::to(key.as_str()));
        }
    }
    shares
}

impl World {
    /// Always the same for one seed. Keys come from a small range, so that two worlds share many rows.
    pub fn from_seed(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed);
        let mut world = Self::default();
        let keys = |rng: &mut Rng, what: &str, most: usize| -> Vec<String> {
            (0..most)
                .filter(|_| rng.f32() < 0.6)
                .map(|at| format!("{what}-{at}"))
                .collect()
        };
        for key in keys(rng, "dhcp", 3) {
            let (cidr, options) = (format!("10.{}.0.0/24", rng.u8(0..3)), texts(rng, "o"));
            world.dhcp.push((
                key,
                DhcpOptions {
                    cidr,
                    options,
                    ..Default::default()
                },
            ));
        }
        for key in keys(rng, "dns", 2) {
            let records = texts(rng, "host");
            world.dns.push((
                key,
                Dns {
                    records,
                    ..Default::default()
                },
            ));
        }
        for key in keys(rng, "set", 3) {
            let name = key.replace('-', "_");
            let addresses = texts(rng, "10.0.0.").into_keys().collect();
            world.address_sets.push((
                key,
                AddressSet {
                    name,
                    addresses,
                    ..Default::default()
                },
            ));
        }
        world.load_balancers(rng, &keys);
        world.routers(rng, &keys);
        world.switches(rng, &keys);
        for key in keys(rng, "meter", 2) {
            let band = MeterBand {
                rate: rng.i64(1..4),
                ..Default::default()
            };
            let bands = BTreeSet::from([Ref::to(key.as_str())]);
            let meter = Meter {
                name: key.clone(),
                bands,
                fair: rng.bool().then_some(true),
                ..Default::default()
            };
            world.bands.push((key.clone(), band));
            world.meters.push((key, meter));
        }
        if rng.bool() {
            let options = texts(rng, "setting");
            world.global.push((
                "global".to_owned(),
                NbGlobal {
                    options,
                    ..Default::default()
                },
            ));
        }
        world
    }

    fn load_balancers(&mut self, rng: &mut Rng, keys: &impl Fn(&mut Rng, &str, usize) -> Vec<String>) {
        let names = keys(rng, "lb", 3);
        if !names.is_empty() {
            for key in keys(rng, "check", 4) {
                let (vip, options) = (format!("10.9.0.{}:80", rng.u8(1..4)), texts(rng, "o"));
                self.checks.push((
                    key,
                    LoadBalancerHealthCheck {
                        vip,
                        options,
                        ..Default::default()
                    },
                ));
            }
        }
        for (key, health_check) in names.iter().zip(share(rng, &self.checks, names.len())) {
            let balancer = LoadBalancer {
                name: "balancer".to_owned(),
                vips: texts(rng, "10.9.0.1:8"),
                health_check,
                ..Default::default()
            };
            self.balancers.push((key.clone(), balancer));
        }
        for key in keys(rng, "lbg", 2) {
            let load_balancer = some(rng, &self.balancers);
            self.balancer_groups.push((key, LoadBalancerGroup { load_balancer }));
        }
    }

    fn routers(&mut self, rng: &mut Rng, keys: &impl Fn(&mut Rng, &str, usize) -> Vec<String>) {
        let groups = keys(rng, "ha", 2);
        for group in &groups {
            let hosts: Vec<String> = keys(rng, "host", 3)
                .iter()
                .map(|host| format!("{group}-{host}"))
                .collect();
            for host in &hosts {
                let (chassis_name, priority) = (host.clone(), rng.i64(1..3));
                let chassis = HaChassis {
                    chassis_name,
                    priority,
                    ..Default::default()
                };
                self.ha_hosts.push((host.clone(), chassis));
            }
            let ha_chassis = hosts.iter().map(|host| Ref::to(host.as_str())).collect();
            let row = HaChassisGroup {
                name: group.clone(),
                ha_chassis,
                ..Default::default()
            };
            self.ha_groups.push((group.clone(), row));
        }
        let routers = keys(rng, "router", 2);
        if !routers.is_empty() {
            for key in keys(rng, "lrp", 4) {
                let gateways = keys(rng, &format!("{key}-gw"), 2);
                for name in &gateways {
                    let gateway = GatewayChassis {
                        name: name.clone(),
                        priority: rng.i64(0..3),
                        ..Default::default()
                    };
                    self.gateways.push((name.clone(), gateway));
                }
                let port = LogicalRouterPort {
                    name: key.clone(),
                    mac: format!("02:00:00:00:00:0{}", rng.u8(0..3)),
                    networks: BTreeSet::from([format!("10.{}.0.1/24", rng.u8(0..3))]),
                    gateway_chassis: gateways.iter().map(|name| Ref::to(name.as_str())).collect(),
                    ha_chassis_group: one(rng, &self.ha_groups),
                    ..Default::default()
                };
                self.router_ports.push((key, port));
            }
            for key in keys(rng, "route", 3) {
                let (ip_prefix, nexthop) = ("0.0.0.0/0".to_owned(), format!("10.0.0.{}", rng.u8(1..4)));
                self.routes.push((
                    key,
                    LogicalRouterStaticRoute {
                        ip_prefix,
                        nexthop,
                        ..Default::default()
                    },
                ));
            }
            for key in keys(rng, "nat", 4) {
                let nat = Nat {
                    kind: *rng.choice(&[NatType::Snat, NatType::DnatAndSnat]).unwrap(),
                    external_ip: format!("192.0.2.{}", rng.u8(1..4)),
                    logical_ip: "10.0.0.0/24".to_owned(),
                    exempted_ext_ips: one(rng, &self.address_sets),
                    gateway_port: one(rng, &self.router_ports),
                    ..Default::default()
                };
                self.nat.push((key, nat));
            }
        }
        let ports = share(rng, &self.router_ports, routers.len());
        let paths = share(rng, &self.routes, routers.len());
        let translations = share(rng, &self.nat, routers.len());
        for (((key, ports), static_routes), nat) in routers.into_iter().zip(ports).zip(paths).zip(translations) {
            let router = LogicalRouter {
                name: "router".to_owned(),
                ports,
                static_routes,
                nat,
                load_balancer: some(rng, &self.balancers),
                load_balancer_group: some(rng, &self.balancer_groups),
                enabled: *rng.choice(&[None, Some(true), Some(false)]).unwrap(),
                options: texts(rng, "o"),
                ..Default::default()
            };
            self.routers.push((key, router));
        }
    }

    fn switches(&mut self, rng: &mut Rng, keys: &impl Fn(&mut Rng, &str, usize) -> Vec<String>) {
        let switches = keys(rng, "switch", 3);
        if !switches.is_empty() {
            for key in keys(rng, "port", 8) {
                let port = LogicalSwitchPort {
                    name: key.clone(),
                    addresses: texts(rng, "0a:00:00:00:00:0").into_keys().collect(),
                    options: texts(rng, "o"),
                    tag: if rng.bool() {
                        Keep::Set(Some(rng.i64(1..3)))
                    } else {
                        Keep::Set(None)
                    },
                    dhcpv4_options: one(rng, &self.dhcp),
                    ha_chassis_group: one(rng, &self.ha_groups),
                    external_ids: BTreeMap::from([("neutron:vnic_type".to_owned(), rng.u8(0..2).to_string())]),
                    ..Default::default()
                };
                self.ports.push((key, port));
            }
            for key in keys(rng, "qos", 3) {
                let bandwidth = BTreeMap::from([(Bandwidth::Rate, rng.i64(1..4))]);
                let matching = "1".to_owned();
                self.qos.push((
                    key,
                    Qos {
                        bandwidth,
                        matching,
                        ..Default::default()
                    },
                ));
            }
        }
        let groups = keys(rng, "group", 3);
        let owners = switches.len() + groups.len();
        if owners > 0 {
            for key in keys(rng, "acl", 6) {
                let acl = Acl {
                    name: rng.bool().then(|| key.clone()),
                    priority: rng.i64(1..4),
                    direction: *rng.choice(&[Direction::FromPort, Direction::ToPort]).unwrap(),
                    matching: format!("ip4 && tcp.dst == {}", rng.u8(1..4)),
                    action: *rng.choice(&[AclAction::Drop, AclAction::AllowRelated]).unwrap(),
                    ..Default::default()
                };
                self.acls.push((key, acl));
            }
        }
        let mut acls = share(rng, &self.acls, owners).into_iter();
        for key in groups {
            let name = key.replace('-', "_");
            let (ports, acls) = (some(rng, &self.ports), acls.next().unwrap_or_default());
            self.groups.push((
                key,
                PortGroup {
                    name,
                    ports,
                    acls,
                    ..Default::default()
                },
            ));
        }
        let ports = share(rng, &self.ports, switches.len());
        let qos = share(rng, &self.qos, switches.len());
        for ((key, ports), qos_rules) in switches.into_iter().zip(ports).zip(qos) {
            let switch = LogicalSwitch {
                name: format!("net-{}", rng.u8(0..2)),
                ports,
                acls: acls.next().unwrap_or_default(),
                qos_rules,
                load_balancer: some(rng, &self.balancers),
                load_balancer_group: some(rng, &self.balancer_groups),
                dns_records: some(rng, &self.dns),
                other_config: texts(rng, "o"),
                ..Default::default()
            };
            self.switches.push((key, switch));
        }
    }

    /// All rows as they are desired.
    pub fn desired(&self) -> Desired {
        self.desired_without(&[])
    }

    /// The same without some tables, whatever refers to them.
    pub fn desired_without(&self, tables: &[&str]) -> Desired {
        let mut desired = Desired::new(OURS);
        macro_rules! insert {
            ($($rows:ident),*) => { $( insert_all(&mut desired, tables, &self.$rows); )* };
        }
        insert!(
            acls,
            address_sets,
            balancers,
            balancer_groups,
            bands,
            checks,
            dhcp,
            dns,
            gateways,
            global,
            groups,
            ha_groups,
            ha_hosts,
            meters,
            nat,
            ports,
            qos,
            router_ports,
            routers,
            routes,
            switches
        );
        desired
    }
}

fn insert_all<T: Table>(desired: &mut Desired, without: &[&str], rows: &Rows<T>) {
    if !without.contains(&T::SPEC.name) {
        for (key, row) in rows {
            desired.insert(key.as_str(), row);
        }
    }
}
