use jiff::Timestamp;
use virga_crds::{Instance, Volume, VolumeState, VolumeStatus, conditions::Reason};

use crate::condition::{Conditions, Progress};

/// The node that a Volume without one goes to: that of the oldest bound Instance that names it.
pub fn node_for<'a>(instances: impl Iterator<Item = &'a Instance>) -> Option<String> {
    let placed = instances.filter(|instance| instance.metadata.deletion_timestamp.is_none());
    let placed = placed.filter_map(|instance| Some((instance, instance.spec.node_name.clone()?)));
    let oldest = placed.min_by_key(|(instance, _)| {
        (
            instance.metadata.creation_timestamp.as_ref().map(|time| time.0),
            instance.metadata.uid.clone(),
        )
    });
    oldest.map(|(_, node)| node)
}

/// The status of a Volume that is on no node yet.
pub fn waiting_status(volume: &Volume, now: Timestamp) -> VolumeStatus {
    let old = volume
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let mut conditions = Conditions::new(old, volume.metadata.generation, now);
    let message = "it is created on the host of the first Instance that names it";
    conditions.set_ready(Progress::Done, Reason::WaitingForConsumer, message);
    VolumeStatus {
        observed_generation: volume.metadata.generation,
        state: Some(VolumeState::Available),
        conditions: conditions.into_vec(),
        ..VolumeStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use virga_crds::InstanceSpec;

    use super::*;

    fn instance(name: &str, age_s: i64, node: Option<&str>) -> Instance {
        let mut instance = Instance::new(
            name,
            InstanceSpec {
                node_name: node.map(Into::into),
                ..InstanceSpec::default()
            },
        );
        instance.metadata.creation_timestamp = Timestamp::from_second(1000 - age_s).ok().map(Time);
        instance
    }

    #[test]
    fn a_volume_goes_where_its_oldest_placed_instance_is() {
        let all = [
            instance("young", 1, Some("b")),
            instance("old", 9, Some("a")),
            instance("waiting", 99, None),
        ];
        assert_eq!(node_for(all.iter()).as_deref(), Some("a"));
        assert_eq!(node_for(all[2..].iter()), None);
    }
}
