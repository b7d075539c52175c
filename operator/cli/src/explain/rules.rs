//! By which profile does the controller of this cluster decide? The chart's ConfigMap says it, to those who may read it.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use virga_runtime::class::chain;
use virga_scheduler::Profile;

use crate::{
    cluster::{Error, Unread, call},
    profile::{self, Named},
};

/// As `charts/virga/templates/scheduler.yaml` names them.
const CONFIG_MAP: &str = "virga-scheduler";
const KEY: &str = "profile.yaml";

const SO: &str = "the standard profile is assumed";

/// The profile of the release in a namespace; the standard one, with a note, when it can't be known.
pub(super) async fn of_release(client: &Client, namespace: &str, unread: &mut Vec<Unread>) -> Result<Named, Error> {
    let what = format!("ConfigMap {namespace}/{CONFIG_MAP}");
    let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let why = match call(&what, maps.get(CONFIG_MAP)).await {
        Ok(map) => match parsed(&map) {
            Ok(profile) => {
                return Ok(Named {
                    name: format!("of {what}"),
                    profile,
                });
            }
            Err(why) => why,
        },
        Err(error) => match error.expected() {
            Some(why) => why.to_owned(),
            None => return Err(error),
        },
    };
    unread.push(Unread { what, why, so: SO });
    Ok(profile::standard())
}

fn parsed(map: &ConfigMap) -> Result<Profile, String> {
    let text = map.data.as_ref().and_then(|data| data.get(KEY));
    let text = text.ok_or_else(|| format!("it has no key {KEY}"))?;
    profile::parse(text).map_err(|error| format!("the controller can't use it: {}", chain(&error)))
}
