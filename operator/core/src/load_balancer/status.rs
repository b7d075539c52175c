use std::net::IpAddr;

use jiff::Timestamp;
use virga_crds::{ForwardedProtocol, LoadBalancer, LoadBalancerStatus, MemberState, MemberStatus, conditions::Reason};

use crate::{
    carried::{Carried, Obstacle, Standing},
    condition::Progress,
    network::Backend,
    protection::{Protection, protection},
};

/// How many members a message names.
const NAMED: usize = 5;

/// Something that is asked whether it answers: a port of a member.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Check {
    /// The back end's name of the member's Port.
    pub port: String,
    /// The member's address.
    pub address: IpAddr,
    /// The number of the port.
    pub number: u16,
    /// Its protocol.
    pub protocol: ForwardedProtocol,
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Online,
    /// It doesn't.
    Offline,
}

/// Whether a member is sent connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It is, as far as it answers.
    Served,
    /// Its Instance doesn't run.
    Stopped,
    /// No way leads there.
    Nowhere,
}

/// A member as the back end knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenMember {
    /// Its address.
    pub address: IpAddr,
    /// Its Instance, if that was chosen.
    pub instance: Option<String>,
    /// Whether it is sent connections.
    pub reach: Reach,
    /// What of it is asked whether it answers.
    pub checks: Vec<Check>,
}

/// What became of a LoadBalancer in the back end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The addresses that it has.
    pub addresses: Vec<String>,
    /// Its members.
    pub members: Vec<SeenMember>,
    /// The first thing that is not as its spec says.
    pub problem: Option<Obstacle>,
}

/// What to do about a LoadBalancer. `obstacle` is what keeps it from having its addresses; `health` has what is known.
pub fn plan(
    balancer: &LoadBalancer,
    backend: Backend,
    obstacle: Option<&Obstacle>,
    carried: &Carried<Seen>,
    health: impl Fn(&Check) -> Option<Health>,
    now: Timestamp,
) -> (Protection, LoadBalancerStatus) {
    let protection = protection(&balancer.metadata, [].into_iter());
    let old = balancer.status.clone().unwrap_or_default();
    let members = carried.seen().map(|seen| members(seen, &health));
    let standing = Standing {
        backend,
        kind: "load balancers",
        obstacle,
        carried,
        problem: |seen| seen.problem.as_ref(),
    };
    let said = (old.observed_generation, old.conditions.as_slice());
    let found = members.as_deref().unwrap_or(&old.members);
    let conditions = standing.conditions(&balancer.metadata, said, now, || told(found));
    let count = |found: &[MemberStatus]| {
        let online = found.iter().filter(|member| is_sent(member.state)).count();
        [online, found.len()].map(|number| i32::try_from(number).unwrap_or(i32::MAX))
    };
    let mut status = LoadBalancerStatus {
        observed_generation: balancer.metadata.generation,
        conditions,
        ..old
    };
    if let (Some(seen), Some(members)) = (carried.seen(), members) {
        // An address is for life: what was said of it once holds when it can't be seen for a moment.
        if !seen.addresses.is_empty() {
            status.addresses.clone_from(&seen.addresses);
        }
        [status.online, status.total] = count(&members);
        status.members = members;
    }
    (protection, status)
}

/// Whether a member like this is sent connections.
pub(crate) fn is_sent(state: MemberState) -> bool {
    match state {
        MemberState::Online | MemberState::Degraded | MemberState::Unknown | MemberState::NoHealthCheck => true,
        MemberState::Offline | MemberState::Stopped | MemberState::Unreachable => false,
    }
}

fn members(seen: &Seen, health: &impl Fn(&Check) -> Option<Health>) -> Vec<MemberStatus> {
    let of = |member: &SeenMember| MemberStatus {
        address: member.address.to_string(),
        instance: member.instance.clone(),
        state: match member.reach {
            Reach::Stopped => MemberState::Stopped,
            Reach::Nowhere => MemberState::Unreachable,
            Reach::Served => asked(&member.checks, health),
        },
    };
    seen.members.iter().map(of).collect()
}

fn asked(checks: &[Check], health: &impl Fn(&Check) -> Option<Health>) -> MemberState {
    if checks.is_empty() {
        return MemberState::NoHealthCheck;
    }
    let known: Vec<Option<Health>> = checks.iter().map(health).collect();
    let all = |wanted: Health| known.iter().all(|health| *health == Some(wanted));
    if all(Health::Online) {
        MemberState::Online
    } else if all(Health::Offline) {
        MemberState::Offline
    } else if known.contains(&Some(Health::Offline)) {
        MemberState::Degraded
    } else {
        MemberState::Unknown
    }
}

/// What is to be said of one of which nothing is wrong but maybe its members.
fn told(members: &[MemberStatus]) -> (Progress, Reason, String) {
    let running: Vec<&MemberStatus> = members
        .iter()
        .filter(|member| member.state != MemberState::Stopped)
        .collect();
    let silent: Vec<&&MemberStatus> = running
        .iter()
        .filter(|member| matches!(member.state, MemberState::Offline | MemberState::Degraded))
        .collect();
    if members.is_empty() {
        let message = "spec.members: nobody is chosen, so all connections are refused: put the selector's labels on \
                       Instances that have an interface in the Network";
        return (Progress::Working, Reason::NoMembers, message.into());
    }
    if running.is_empty() {
        let message = "spec.members: none of those that are chosen runs, so all connections are refused: start one";
        return (Progress::Working, Reason::NoMembers, message.into());
    }
    if silent.is_empty() {
        let message = format!("connections are shared out among {}", running.len());
        return (Progress::Done, Reason::AsSpecified, message);
    }
    let names: Vec<String> = silent
        .iter()
        .take(NAMED)
        .map(|member| match &member.instance {
            Some(instance) => format!("{instance} ({})", member.address),
            None => member.address.clone(),
        })
        .collect();
    let more = silent.len().saturating_sub(NAMED);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    let names = format!("{}{more}", names.join(", "));
    let cure = "see whether the service runs there and listens to all addresses";
    if running.iter().all(|member| member.state == MemberState::Offline) {
        let message = format!("no member answers, so all connections are refused: {names}: {cure}");
        return (Progress::Working, Reason::MembersOffline, message);
    }
    let message = format!("left out, for they don't answer: {names}: {cure}");
    (Progress::Done, Reason::MembersDegraded, message)
}

#[cfg(test)]
mod tests {
    use virga_crds::LoadBalancerSpec;

    use super::*;

    const OVN: Backend = Backend::Ovn { underlay_mtu: 1500 };

    fn member(number: u8, reach: Reach, ports: &[u16]) -> SeenMember {
        let address: IpAddr = [10, 0, 0, number].into();
        let check = |port: &u16| Check {
            port: format!("port-{number}"),
            address,
            number: *port,
            protocol: ForwardedProtocol::Tcp,
        };
        SeenMember {
            address,
            instance: Some(format!("web-{number}")),
            reach,
            checks: ports.iter().map(check).collect(),
        }
    }

    fn seen(members: Vec<SeenMember>) -> Carried<Seen> {
        Carried::Seen(Seen {
            addresses: vec!["10.0.0.100".into()],
            members,
            problem: None,
        })
    }

    fn status(carried: &Carried<Seen>, health: impl Fn(&Check) -> Option<Health>) -> LoadBalancerStatus {
        let web = LoadBalancer::new("web", LoadBalancerSpec::default());
        plan(&web, OVN, None, carried, health, Timestamp::UNIX_EPOCH).1
    }

    fn ready(status: &LoadBalancerStatus) -> String {
        let ready = &status.conditions[0];
        format!("{}/{}", ready.status, ready.reason)
    }

    #[test]
    fn each_member_is_told_of_by_what_came_of_asking_it() {
        let members = vec![
            member(1, Reach::Served, &[80]),
            member(2, Reach::Served, &[80, 443]),
            member(3, Reach::Served, &[80]),
            member(4, Reach::Served, &[80]),
            member(5, Reach::Served, &[]),
            member(6, Reach::Stopped, &[]),
            member(7, Reach::Nowhere, &[]),
        ];
        let health = |check: &Check| match (check.port.as_str(), check.number) {
            ("port-1", _) | ("port-2", 80) => Some(Health::Online),
            ("port-2" | "port-3", _) => Some(Health::Offline),
            _ => None,
        };
        let status = status(&seen(members), health);
        let found: Vec<MemberState> = status.members.iter().map(|member| member.state).collect();
        assert_eq!(
            found,
            [
                MemberState::Online,
                MemberState::Degraded,
                MemberState::Offline,
                MemberState::Unknown,
                MemberState::NoHealthCheck,
                MemberState::Stopped,
                MemberState::Unreachable,
            ]
        );
        assert_eq!((status.online, status.total), (4, 7));
        assert_eq!(ready(&status), "True/MembersDegraded");
        assert!(
            status.conditions[0]
                .message
                .contains("web-2 (10.0.0.2), web-3 (10.0.0.3)")
        );
    }

    #[test]
    fn one_that_nobody_answers_for_is_not_ready() {
        let offline = |_: &Check| Some(Health::Offline);
        assert_eq!(ready(&status(&seen(vec![]), offline)), "False/NoMembers");
        let stopped = vec![member(1, Reach::Stopped, &[])];
        assert_eq!(ready(&status(&seen(stopped), offline)), "False/NoMembers");
        let silent = vec![member(1, Reach::Served, &[80]), member(2, Reach::Stopped, &[])];
        assert_eq!(ready(&status(&seen(silent), offline)), "False/MembersOffline");
        let served = vec![member(1, Reach::Served, &[])];
        assert_eq!(ready(&status(&seen(served), offline)), "True/AsSpecified");
    }

    #[test]
    fn what_was_said_holds_until_somebody_looks_and_libvirt_has_none() {
        let mut web = LoadBalancer::new("web", LoadBalancerSpec::default());
        let now = Timestamp::UNIX_EPOCH;
        let nothing = |_: &Check| None;
        let before = plan(
            &web,
            OVN,
            None,
            &seen(vec![member(1, Reach::Served, &[])]),
            nothing,
            now,
        )
        .1;
        web.status = Some(before.clone());
        assert_eq!(plan(&web, OVN, None, &Carried::Unknown, nothing, now).1, before);
        web.status = None;
        let status = plan(&web, OVN, None, &Carried::Unknown, nothing, now).1;
        assert_eq!(ready(&status), "False/Building");
        let status = plan(&web, Backend::Libvirt, None, &Carried::Unknown, nothing, now).1;
        assert_eq!(ready(&status), "False/NotSupported");
    }
}
