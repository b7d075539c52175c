//! Which Instances on this node name a volume, and which of them have it?

use kube::ResourceExt;
use uuid::Uuid;
use virga_core::{
    instance::Domain,
    volume::{Claimant, volume_names},
};

use crate::{domain, host::Host};

/// The Instances on this node that name a volume, and whether they have it already. `but` is left out.
pub async fn claimants(host: &Host, namespace: &str, volume: &str, but: Option<Uuid>) -> Vec<Claimant> {
    let instances = host.stores.instances.state();
    let naming = instances
        .into_iter()
        .filter(|instance| instance.namespace().as_deref() == Some(namespace))
        .filter(|instance| volume_names(instance).any(|name| name == volume));
    let mut claimants = Vec::new();
    for instance in naming {
        let Some(uid) = instance.uid().and_then(|uid| uid.parse::<Uuid>().ok()) else {
            continue;
        };
        if Some(uid) == but {
            continue;
        }
        let domain = domain::look(host, uid).await;
        claimants.push(Claimant {
            // One that can't be looked at may have it: nobody takes it away.
            without_domain: matches!(domain, Domain::Absent | Domain::Foreign(_)),
            created: instance.metadata.creation_timestamp.as_ref().map(|time| time.0),
            uid: uid.to_string(),
            name: instance.name_any(),
        });
    }
    claimants
}
