//! How IPv6 guests come by an address, a way out and a name server: which flows OVN's own northd makes of it.

use std::collections::BTreeMap;

use virga_crds::Ipv6Mode;
use virga_ovsdb::testing::Northd;

use crate::{
    objects::{cloud, network, port, subnet},
    routed::{open, router},
    server::{client, write},
};

#[tokio::test]
async fn each_mode_is_advertised_by_the_router_and_answered_by_dhcpv6_as_it_says() {
    let ovn = Northd::start().unwrap();
    let client = client(ovn.northbound()).await;
    // Whether DHCPv6 tells an address, and whether it says anything.
    let modes = [
        (None, "dhcpv6_stateful", true, true),
        (Some(Ipv6Mode::Stateful), "dhcpv6_stateful", true, true),
        (Some(Ipv6Mode::Stateless), "dhcpv6_stateless", false, true),
        (Some(Ipv6Mode::Slaac), "slaac", false, false),
    ];
    for (mode, told, has_address, answers) in modes {
        let mut cloud = cloud();
        let guest = port(1, "front", &["fd00:1::f816:3eff:fe00:1"]);
        let front = network(1, "front", |spec| {
            let mut v6 = subnet("v6", "fd00:1::/64");
            v6.ipv6_mode = mode;
            spec.subnets = vec![v6];
            spec.dns_domain = Some("example.org".into());
        });
        let edge = router(2, "edge", &["front"], |spec| spec.external_gateway = None);
        cloud.reset([&front], [&guest], [&edge], [], []);
        open(&mut cloud);
        let plan = write(&client, &cloud.take()).await;
        assert_eq!(plan.problems, [], "{mode:?}");
        ovn.sync().unwrap();

        let configs = client.read(|replica| {
            let rows = replica.rows("Logical_Router_Port");
            let configs = rows.map(|row| row.get::<BTreeMap<String, String>>("ipv6_ra_configs").unwrap());
            configs.flatten().collect::<BTreeMap<_, _>>()
        });
        assert_eq!(configs.get("address_mode").map(String::as_str), Some(told));
        assert_eq!(configs.get("mtu").map(String::as_str), Some("1442"));
        let alone = (mode == Some(Ipv6Mode::Slaac)).then_some(("fd00:1::1", "example.org"));
        let said = configs.get("rdnss").zip(configs.get("dnssl"));
        assert_eq!(said.map(|(server, domain)| (server.as_str(), domain.as_str())), alone);

        // ovn-trace 23.03 breaks off at advertisements, so the flows are looked at.
        let flows = ovn.sbctl(&["lflow-list"]).unwrap();
        let with = |words: &[&str]| flows.lines().any(|flow| words.iter().all(|word| flow.contains(word)));
        let mode_told = format!("addr_mode = \"{told}\"");
        assert!(
            with(&["put_nd_ra_opts", &mode_told, "prefix = fd00:1::/64"]),
            "{mode:?}: {flows}"
        );
        assert_eq!(with(&["put_dhcpv6_opts("]), answers, "{mode:?}: {flows}");
        let address = "ia_addr = fd00:1::f816:3eff:fe00:1";
        assert_eq!(with(&["put_dhcpv6_opts(", address]), has_address, "{mode:?}: {flows}");
    }
}
