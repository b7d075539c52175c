use virga_crds::{Instance, LoadBalancer, ObservedPower, PowerState};

/// How many Instances a LoadBalancer may choose.
pub const MOST_MEMBERS: usize = 256;

/// The Network of the Instances' addresses that are asked.
pub fn members_network(balancer: &LoadBalancer) -> &str {
    let spec = &balancer.spec;
    spec.members.network.as_deref().unwrap_or(&spec.vip.network)
}

/// Whether an Instance may be sent connections: it runs, and nobody wants that to end.
///
/// One on a host that is not heard of stays: its guest runs on, as far as anybody knows. That it answers is what checks are
/// for.
pub fn is_served(instance: &Instance) -> bool {
    let spec = &instance.spec;
    let runs = instance.status.as_ref().and_then(|status| status.power_state) == Some(ObservedPower::Running);
    let is_lost = instance
        .status
        .as_ref()
        .is_some_and(|status| status.power_state == Some(ObservedPower::Unknown));
    let wanted = spec.power_state == PowerState::Running && spec.soft_delete.is_none();
    (runs || is_lost) && wanted && instance.metadata.deletion_timestamp.is_none()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use virga_crds::{InstanceSpec, InstanceStatus, SoftDelete};

    use super::*;

    fn served(power: Option<ObservedPower>, change: impl FnOnce(&mut Instance)) -> bool {
        let mut instance = Instance::new("web-1", InstanceSpec::default());
        instance.status = power.map(|power| InstanceStatus {
            power_state: Some(power),
            ..InstanceStatus::default()
        });
        change(&mut instance);
        is_served(&instance)
    }

    #[test]
    fn what_runs_is_served_until_somebody_wants_it_to_end() {
        let running = Some(ObservedPower::Running);
        assert!(served(running, |_| {}));
        assert!(served(Some(ObservedPower::Unknown), |_| {}), "its host is silent");
        assert!(!served(None, |_| {}), "it is being built");
        assert!(!served(Some(ObservedPower::Stopped), |_| {}));
        assert!(!served(running, |i| i.spec.power_state = PowerState::Stopped));
        assert!(!served(running, |i| i.metadata.deletion_timestamp =
            Some(Time(jiff::Timestamp::UNIX_EPOCH))));
        let gone = |instance: &mut Instance| {
            instance.spec.soft_delete = Some(SoftDelete {
                reclaim_after: "1h".into(),
            });
        };
        assert!(!served(running, gone));
    }
}
