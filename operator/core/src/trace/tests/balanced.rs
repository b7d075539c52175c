//! Who is sent a connection to a LoadBalancer, and does it arrive at each?

use virga_crds::MemberState;

use super::*;

/// `pages` at 10.0.0.100, on port 80 to the members' 8080, with these members.
fn pages(members: &[(&str, &str, MemberState)]) -> LoadBalancer {
    let all = json!({
        "vip": {"network": "front"},
        "listeners": [{"protocol": "TCP", "port": 80, "memberPort": 8080}],
        "members": {"selector": {}},
    });
    let mut balancer = LoadBalancer::new("pages", spec(all));
    let members = members.iter().map(|(instance, address, state)| MemberStatus {
        address: (*address).into(),
        instance: Some((*instance).into()),
        state: *state,
    });
    balancer.status = Some(LoadBalancerStatus {
        addresses: vec!["10.0.0.100".into()],
        members: members.collect(),
        ..LoadBalancerStatus::default()
    });
    balancer
}

/// web-2 and db-1 answer, and web-1 does not run. All may be asked on 8080, but db-1.
fn shop() -> Shop {
    let mut shop = Shop::new();
    shop.balancers = vec![pages(&[
        ("web-1", "10.0.0.5", MemberState::Stopped),
        ("web-2", "10.0.0.6", MemberState::Online),
        ("db-1", "10.1.0.5", MemberState::NoHealthCheck),
    ])];
    shop
}

fn open(shop: &mut Shop) {
    let rule = json!([{"direction": "Ingress"}, {"direction": "Egress"}]);
    for name in ["default", "web", "db"] {
        shop.groups.retain(|group| group.metadata.name.as_deref() != Some(name));
        shop.groups.push(group(name, &rule));
    }
}

fn ways(trace: &Trace) -> Vec<(String, Verdict)> {
    let members = trace.members.iter();
    members
        .map(|member| (member.arrives_at.clone().unwrap_or_default(), member.verdict))
        .collect()
}

#[test]
fn each_member_has_a_way_of_its_own_and_who_does_not_run_none() {
    let mut shop = shop();
    open(&mut shop);
    let trace = shop.tcp("web-1", "pages", 80);
    assert_eq!(trace.verdict, Verdict::Passes, "{}", told(&trace));
    let passes = |port: &str| (port.to_owned(), Verdict::Passes);
    assert_eq!(ways(&trace), [passes("web-2-front"), passes("db-1-back")]);
    assert_eq!(trace.notes, ["web-1 (10.0.0.5) is sent nothing: it is Stopped"]);
    // By the LoadBalancer's own router, and then by the one that joins both Networks.
    let of_db: Vec<&str> = trace.members[1].steps.iter().map(|step| step.kind).collect();
    assert_eq!(of_db, ["LoadBalancer", "Router", "Network", "SecurityGroup", "Port"]);
    // From the other Network it is shared out before the Router is asked.
    let far = shop.tcp("db-1", "loadbalancer/pages", 80);
    assert_eq!(far.verdict, Verdict::Passes, "{}", told(&far));
    assert_eq!(far.members[0].arrives_at.as_deref(), Some("web-2-front"));
    let own = &far.members[1].steps[1];
    assert!(own.says.contains("it comes back as from 10.0.0.100"), "{own:?}");
}

#[test]
fn one_that_lets_nobody_in_is_told_with_the_cure() {
    let mut shop = shop();
    open(&mut shop);
    shop.groups.retain(|group| group.metadata.name.as_deref() != Some("db"));
    let in_force = json!([{"direction": "Ingress", "protocol": "tcp", "ports": {"min": 5432}}]);
    shop.groups.push(group("db", &in_force));
    let trace = shop.tcp("web-1", "10.0.0.100", 80);
    assert_eq!(trace.verdict, Verdict::Drops);
    let verdicts: Vec<Verdict> = trace.members.iter().map(|member| member.verdict).collect();
    assert_eq!(verdicts, [Verdict::Passes, Verdict::Drops]);
    let cure = trace.cure.unwrap();
    assert!(
        cure.contains("SecurityGroup db") && cure.contains("{min: 8080}"),
        "{cure}"
    );
}

#[test]
fn what_nobody_listens_to_is_refused_and_a_ping_is_answered() {
    let mut shop = shop();
    open(&mut shop);
    let closed = shop.tcp("web-1", "pages", 443);
    assert_eq!(closed.verdict, Verdict::Drops, "{}", told(&closed));
    assert_eq!(closed.cure.unwrap(), "add it to listeners of LoadBalancer pages");
    assert!(closed.members.is_empty());
    let ping = shop.ask(&question("web-1", "pages", Protocol::Icmp, None)).unwrap();
    assert_eq!(ping.verdict, Verdict::Passes);
    assert!(
        ping.steps
            .last()
            .unwrap()
            .says
            .contains("answers: 10.0.0.100 is its own")
    );
    for member in &mut shop.balancers[0].status.as_mut().unwrap().members {
        member.state = MemberState::Offline;
    }
    let nobody = shop.tcp("web-1", "pages", 80);
    assert!(
        nobody.steps.last().unwrap().says.contains("it is refused"),
        "{}",
        told(&nobody)
    );
}

#[test]
fn an_address_outside_leads_to_the_members_and_the_own_one_does_not() {
    let mut shop = shop();
    open(&mut shop);
    let led = json!({"loadBalancer": "pages"});
    shop.floating
        .push(floating("vip", "10.200.0.52", Some("10.0.0.100"), &led));
    for to in ["10.200.0.52", "pages"] {
        let trace = shop.tcp("203.0.113.9", to, 80);
        assert_eq!(trace.verdict, Verdict::Passes, "{}", told(&trace));
        assert_eq!(trace.packet.destination.to_string(), "10.200.0.52");
        assert_eq!(ways(&trace).len(), 2);
    }
    let closed = shop.tcp("203.0.113.9", "10.200.0.52", 443);
    assert_eq!(closed.cure.unwrap(), "add it to listeners of LoadBalancer pages");
    let hidden = shop.tcp("203.0.113.9", "10.0.0.100", 80);
    assert_eq!(
        hidden.cure.unwrap(),
        "create a FloatingIP that leads to LoadBalancer pages"
    );
}

#[test]
fn it_sends_nothing_by_itself() {
    let shop = shop();
    for from in ["pages", "10.0.0.100"] {
        let unclear = shop.ask(&question(from, "web-1", Protocol::Tcp, Some(80))).unwrap_err();
        assert_eq!(
            unclear.to_string(),
            "10.0.0.100 is LoadBalancer pages's, which sends nothing by itself: name who asks it"
        );
    }
}
