//! However changes come: the rows are those of what there is.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use virga_crds::{Network, Port};
use virga_ovn::Cloud;

use crate::objects::{cloud, network, port, uid};

#[derive(Debug, Clone)]
enum Step {
    SetNetwork(u64, bool),
    RemoveNetwork(u64),
    SetPort(u64, u64),
    RemovePort(u64, u64),
    Take,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3_u64, any::<bool>()).prop_map(|(at, dns)| Step::SetNetwork(at, dns)),
        (0..3_u64).prop_map(Step::RemoveNetwork),
        (0..3_u64, 0..4_u64).prop_map(|(at, port)| Step::SetPort(at, port)),
        (0..3_u64, 0..4_u64).prop_map(|(at, port)| Step::RemovePort(at, port)),
        Just(Step::Take),
    ]
}

fn made(at: u64, dns: bool) -> Arc<Network> {
    network(at + 1, &format!("n{at}"), |spec| {
        spec.dns_domain = dns.then(|| "x.test".into());
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_taken_covers_all_that_differs(steps in prop::collection::vec(step(), 1..40)) {
        let mut cloud: Cloud = cloud();
        // What was written last, by network: whether it has names in a domain, and its ports.
        let mut written: BTreeMap<u64, usize> = BTreeMap::new();
        let mut networks: BTreeMap<u64, Arc<Network>> = BTreeMap::new();
        let mut ports: BTreeMap<(u64, u64), Arc<Port>> = BTreeMap::new();
        for step in steps.into_iter().chain([Step::Take]) {
            match step {
                Step::SetNetwork(at, dns) => {
                    let network = made(at, dns);
                    cloud.set_network(&network);
                    networks.insert(at, network);
                }
                Step::RemoveNetwork(at) => {
                    if let Some(network) = networks.remove(&at) {
                        cloud.remove_network(&network);
                    }
                }
                Step::SetPort(at, number) => {
                    let address = format!("10.0.0.{}", number + 5);
                    let port = port(number, &format!("n{at}"), &[&address]);
                    cloud.set_port(&port);
                    ports.insert((at, number), port);
                }
                Step::RemovePort(at, number) => {
                    if let Some(port) = ports.remove(&(at, number)) {
                        cloud.remove_port(&port);
                    }
                }
                Step::Take => {
                    let wanted = cloud.take();
                    for (at, count) in &mut written {
                        if wanted.networks.contains_key(&uid(*at + 1)) {
                            *count = 0;
                        }
                    }
                    for at in 0..3 {
                        if wanted.networks.get(&uid(at + 1)).copied().flatten().is_some() {
                            written.insert(at, of_ports(&ports, at) + 3);
                        }
                    }
                    written.retain(|_, count| *count > 0);
                    let should: BTreeMap<u64, usize> =
                        networks.keys().map(|at| (*at, of_ports(&ports, *at) + 3)).collect();
                    prop_assert_eq!(&written, &should);
                    // Those taken now, whole and no others: switch, service, DHCP, each port; and, if there are any, names and
                    // what keeps them closed, a group with five rules.
                    let rows: usize = wanted
                        .networks
                        .iter()
                        .filter(|(_, there)| there.is_some())
                        .map(|(taken, _)| {
                            let at = (0..3).find(|at| uid(at + 1) == *taken).unwrap();
                            let count = of_ports(&ports, at);
                            3 + count + 7 * usize::from(count > 0)
                        })
                        .sum();
                    prop_assert_eq!(wanted.desired.len(), rows);
                    prop_assert!(!cloud.is_dirty());
                }
            }
        }
    }
}

fn of_ports(ports: &BTreeMap<(u64, u64), Arc<Port>>, at: u64) -> usize {
    ports.keys().filter(|(network, _)| *network == at).count()
}
