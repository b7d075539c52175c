//! The CustomResourceDefinitions, as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::Value;

use crate::{
    AddressGroup, Flavor, FloatingIP, HostAggregate, Hypervisor, Image, Instance, LoadBalancer, Migration, Network,
    Port, Project, Router, SecurityGroup, ServerGroup, Volume,
};

/// Every kind's definition, in the order of their names.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![
        AddressGroup::crd(),
        Flavor::crd(),
        FloatingIP::crd(),
        HostAggregate::crd(),
        Hypervisor::crd(),
        Image::crd(),
        Instance::crd(),
        LoadBalancer::crd(),
        Migration::crd(),
        Network::crd(),
        Port::crd(),
        Project::crd(),
        Router::crd(),
        SecurityGroup::crd(),
        ServerGroup::crd(),
        Volume::crd(),
    ]
}

/// A definition as YAML, ready to be committed.
///
/// What the schema generator adds and Kubernetes does not know is taken out: `nullable` (an explicit null would pass a
/// `has()` rule; without it the apiserver refuses the null) and integer formats such as `uint16`.
pub fn to_yaml(definition: &CustomResourceDefinition) -> Result<String, serde_yaml::Error> {
    let mut value = serde_yaml::to_value(definition).and_then(serde_yaml::from_value::<Value>)?;
    clean(&mut value);
    serde_yaml::to_string(&value)
}

fn clean(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("nullable");
            let unsigned = map
                .get("format")
                .and_then(Value::as_str)
                .is_some_and(|format| format.starts_with("uint"));
            if unsigned {
                map.insert("format".into(), "int64".into());
            }
            if unsigned
                || map
                    .get("format")
                    .is_some_and(|format| format == "int32" || format == "int64")
            {
                for bound in ["minimum", "maximum"] {
                    if let Some(whole) = map.get(bound).and_then(Value::as_f64) {
                        #[allow(clippy::cast_possible_truncation, reason = "bounds of integers are whole and small")]
                        map.insert(bound.into(), (whole as i64).into());
                    }
                }
            }
            map.values_mut().for_each(clean);
        }
        Value::Array(items) => items.iter_mut().for_each(clean),
        _ => {}
    }
}
