//! Objects that reviews are about, and what their answers say.

use k8s_openapi::ByteString;
use serde_json::{Value, json};
use virga_crds::{Bytes, Interface, Network, NetworkSpec, Subnet, Volume, VolumeAttachment, VolumeSpec};

use super::{Replica, in_shop, review};

/// A Network of the namespace `shop`.
pub fn network(name: &str, cidr: &str) -> Network {
    let subnet = Subnet {
        name: "v4".into(),
        cidr: cidr.into(),
        ..Subnet::default()
    };
    in_shop(Network::new(
        name,
        NetworkSpec {
            subnets: vec![subnet],
            ..NetworkSpec::default()
        },
    ))
}

/// A Volume of the namespace `shop`: 1 GiB.
pub fn volume(name: &str) -> Volume {
    in_shop(Volume::new(
        name,
        VolumeSpec {
            size: Bytes::gib(1),
            ..VolumeSpec::default()
        },
    ))
}

/// Volumes by name.
pub fn attach(names: &[&str]) -> Vec<VolumeAttachment> {
    names
        .iter()
        .map(|name| VolumeAttachment { name: (*name).into() })
        .collect()
}

/// An interface.
pub fn interface(network: &str, address: Option<&str>) -> Interface {
    Interface {
        network: network.into(),
        address: address.map(Into::into),
        ..Interface::default()
    }
}

/// The causes of a refusal as `field: message`, and its code.
pub fn causes(answer: &Value) -> (u64, Vec<String>) {
    assert_eq!(answer["response"]["allowed"], false, "{answer}");
    let status = &answer["response"]["status"];
    let causes = status["details"]["causes"].as_array().cloned().unwrap_or_default();
    let line = |cause: &Value| {
        format!(
            "{}: {}",
            cause["field"].as_str().unwrap(),
            cause["message"].as_str().unwrap()
        )
    };
    (status["code"].as_u64().unwrap(), causes.iter().map(line).collect())
}

/// The warnings of an answer that allows.
pub fn warnings(answer: &Value) -> Vec<String> {
    assert_eq!(answer["response"]["allowed"], true, "{answer}");
    serde_json::from_value(answer["response"]["warnings"].clone()).unwrap_or_default()
}

/// The patch of an answer that allows.
pub fn patch(answer: &Value) -> Value {
    assert_eq!(answer["response"]["allowed"], true, "{answer}");
    match answer["response"].get("patch") {
        Some(patch) => {
            assert_eq!(answer["response"]["patchType"], "JSONPatch");
            let bytes: ByteString = serde_json::from_value(patch.clone()).unwrap();
            serde_json::from_slice(&bytes.0).unwrap()
        }
        None => json!([]),
    }
}

/// Asks about the create of an object, by the user `jane`.
pub async fn validate(replica: &Replica, object: &impl serde::Serialize, kind: &str) -> Value {
    let mut object = serde_json::to_value(object).unwrap();
    object["kind"] = kind.into();
    replica
        .ask("/validate", &review("CREATE", "jane", Some(object), None))
        .await
}
