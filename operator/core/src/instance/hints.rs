use std::net::IpAddr;

use virga_crds::{Instance, SchedulerHints};

use crate::problem::Problems;

/// Whether a prefix such as `/24` is no longer than the address.
fn fits(cidr: &str, ip: IpAddr) -> bool {
    let length = cidr.strip_prefix('/').and_then(|length| length.parse::<u8>().ok());
    length.is_some_and(|length| length <= longest(ip))
}

fn longest(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// What is wrong with an Instance's hints by themselves. What a query says is the scheduler's to read.
pub(super) fn validate(instance: &Instance, hints: &SchedulerHints) -> Problems {
    let mut problems = Problems::default();
    let itself = instance.metadata.name.as_deref();
    for (field, names, word) in [
        ("differentHost", &hints.different_host, "apart from itself"),
        ("sameHost", &hints.same_host, "beside itself"),
    ] {
        if names.iter().any(|name| Some(name.as_str()) == itself) {
            let message = format!("an Instance can't be placed {word}: name others");
            problems.add(format!("spec.placement.hints.{field}"), message);
        }
    }
    // One that is alone in sameHost can't be there and not there; among several another one will do.
    if let [alone] = hints.same_host.as_slice()
        && hints.different_host.contains(alone)
    {
        let message = format!("{alone:?} is named in differentHost too: no host is both; leave one out");
        problems.add("spec.placement.hints.sameHost", message);
    }
    match hints.build_near_host_ip.as_deref().map(str::parse::<IpAddr>) {
        Some(Err(_)) => problems.add("spec.placement.hints.buildNearHostIP", "not an IP address"),
        Some(Ok(ip)) if hints.cidr.as_deref().is_some_and(|cidr| !fits(cidr, ip)) => problems.add(
            "spec.placement.hints.cidr",
            format!("must be from /0 to /{} for {ip}", longest(ip)),
        ),
        None if hints.cidr.is_some() => problems.add(
            "spec.placement.hints.cidr",
            "says how near buildNearHostIP is: give that too",
        ),
        _ => {}
    }
    problems
}

#[cfg(test)]
mod tests {
    use virga_crds::InstanceSpec;

    use super::*;

    fn fields(hints: &SchedulerHints) -> Vec<String> {
        let instance = Instance::new("web-1", InstanceSpec::default());
        validate(&instance, hints)
            .iter()
            .map(|problem| problem.field.clone())
            .collect()
    }

    fn at(ip: &str, cidr: Option<&str>) -> SchedulerHints {
        SchedulerHints {
            build_near_host_ip: Some(ip.into()),
            cidr: cidr.map(str::to_owned),
            ..SchedulerHints::default()
        }
    }

    #[test]
    fn a_network_near_a_host_is_right() {
        for (ip, cidr) in [
            ("10.0.0.5", None),
            ("10.0.0.5", Some("/0")),
            ("10.0.0.5", Some("/32")),
            ("fd00::1", Some("/64")),
        ] {
            assert!(fields(&at(ip, cidr)).is_empty(), "{ip} {cidr:?}");
        }
    }

    #[test]
    fn what_no_host_can_fulfil_is_told_with_its_field() {
        for (hints, field) in [
            (at("10.0.0.5", Some("/33")), "cidr"),
            (at("10.0.0.5", Some("/999")), "cidr"),
            (at("fd00::1", Some("/129")), "cidr"),
            (at("here", None), "buildNearHostIP"),
            (
                SchedulerHints {
                    cidr: Some("/24".into()),
                    ..SchedulerHints::default()
                },
                "cidr",
            ),
            (
                SchedulerHints {
                    different_host: vec!["web-1".into()],
                    ..SchedulerHints::default()
                },
                "differentHost",
            ),
            (
                SchedulerHints {
                    same_host: vec!["db".into(), "web-1".into()],
                    ..SchedulerHints::default()
                },
                "sameHost",
            ),
            (
                SchedulerHints {
                    different_host: vec!["db".into()],
                    same_host: vec!["db".into()],
                    ..SchedulerHints::default()
                },
                "sameHost",
            ),
        ] {
            assert_eq!(fields(&hints), [format!("spec.placement.hints.{field}")], "{hints:?}");
        }
    }
}
