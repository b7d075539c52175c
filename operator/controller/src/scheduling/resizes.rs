//! Has its host room for the size that an Instance asks for? Found and held in one step, and told in an annotation.
//!
//! What is held is the larger of both sizes: until the resize is final it may go back. The stores know of it when the
//! annotation is seen; until then it is remembered here.

use std::collections::BTreeSet;

use kube::{
    Client, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use virga_core::instance::granted;
use virga_crds::{Instance, ResizeVerdict, labels, managers};
use virga_scheduler::{HostVerdict, OnlyHosts, Uid, Verdict};

use super::{
    bind, request,
    state::{Scheduler, State},
    takes::{self, Held, Taken},
};

/// Room that was found for a resize.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Grant {
    generation: Option<i64>,
    taken: Taken,
}

/// What is to be done about a resize.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing: none is asked for, or it was answered.
    Nothing,
    /// It waits for what is missing, or for a leader that knows enough.
    Later,
    /// There is room, and it is held.
    Granted(ResizeVerdict),
    /// There is none.
    Refused {
        /// What is to be said.
        verdict: ResizeVerdict,
        /// Whether another host has room, for the size that it has, too.
        elsewhere: bool,
    },
}

impl Scheduler {
    /// Whether its host has room for the size that the Instance asks for now. Room that is found is held from here on.
    pub fn resize(&self, instance: &Instance) -> Answer {
        let Some(host) = asked_of(instance) else {
            return Answer::Nothing;
        };
        if granted(instance).is_some() {
            return Answer::Nothing;
        }
        let uid = instance.uid().unwrap_or_default();
        let said = |refused: Option<String>| ResizeVerdict {
            flavor: instance.spec.flavor.clone(),
            generation: instance.metadata.generation.unwrap_or_default(),
            host: host.to_owned(),
            refused,
            migration: None,
            cancelled: false,
        };
        let request = match request::request(&uid, instance, &self.stores, self.clock.now()) {
            Ok(request) => request,
            Err(obstacles) => {
                let stuck = obstacles.iter().find(|obstacle| obstacle.stuck);
                let refused = stuck.map(|obstacle| format!("{}: {}", obstacle.field, obstacle.message));
                return refused.map_or(Answer::Later, |why| Answer::Refused {
                    verdict: said(Some(why)),
                    elsewhere: false,
                });
            }
        };
        let mut other = virga_scheduler::Request {
            uid: format!("resize {uid}").into(),
            resources: takes::larger(request.resources, takes::taken(instance, &self.stores).resources),
            ..request.clone()
        };
        other.excluded_hosts.insert(host.to_owned());
        let request = virga_scheduler::Request {
            only_hosts: Some(OnlyHosts {
                hosts: BTreeSet::from([host.to_owned()]),
                reason: format!("it is on {host}"),
            }),
            excluded_hosts: BTreeSet::new(),
            ..request
        };
        let uid = Uid::from(uid);
        let mut state = self.state();
        if !state.open {
            return Answer::Later;
        }
        let table = state.cluster.explain(&request);
        if table.chosen.is_none() {
            let why = table.hosts.iter().find(|verdict| verdict.host == host);
            return Answer::Refused {
                verdict: said(Some(why.map_or_else(|| "it is not known".into(), reason))),
                elsewhere: state.cluster.dry_run(&other).is_ok(),
            };
        }
        let grant = Grant {
            generation: instance.metadata.generation,
            taken: Taken {
                resources: request.resources,
                units: request.demands.map(|demands| demands.resources).unwrap_or_default(),
                ..Taken::default()
            },
        };
        state.grants.insert(uid.clone(), grant);
        let held = self.held(&mut state, &uid, instance);
        state.cluster.place_claim(&uid, &held.claim(host));
        self.spread(&mut state);
        Answer::Granted(said(None))
    }

    /// What an Instance holds on its host, with room that was found for a resize just now.
    pub(super) fn held(&self, state: &mut State, uid: &Uid, instance: &Instance) -> Held {
        let mut held = Held::of(instance, &self.stores, state.cluster.profile());
        let current = asked_of(instance).is_some() && granted(instance).is_none();
        match state.grants.get(uid) {
            Some(grant) if current && grant.generation == instance.metadata.generation => {
                held.taken = takes::largest(held.taken, grant.taken.clone());
            }
            Some(_) => drop(state.grants.remove(uid)),
            None => {}
        }
        held
    }
}

/// The host that a resize is asked of, if one is and none is under way.
fn asked_of(instance: &Instance) -> Option<&str> {
    let status = instance.status.as_ref()?;
    let under_way = status.resize.as_ref().is_some_and(|resize| resize.is_open());
    let other = status.flavor.as_ref()?.name != instance.spec.flavor;
    let host = instance.spec.node_name.as_deref()?;
    (other && !under_way && instance.metadata.deletion_timestamp.is_none()).then_some(host)
}

/// What was said last.
pub fn told(instance: &Instance) -> Option<ResizeVerdict> {
    let told = instance.annotations().get(labels::RESIZE)?;
    serde_json::from_str(told).ok()
}

/// Whether this was said already: a refusal is written when it is news.
pub fn is_told(instance: &Instance, verdict: &ResizeVerdict) -> bool {
    told(instance).as_ref() == Some(verdict)
}

/// Why a host was rejected, in words for everybody.
fn reason(said: &HostVerdict) -> String {
    match &said.verdict {
        Verdict::Rejected { filter, text, .. } if text.is_empty() => (*filter).to_owned(),
        Verdict::Rejected { filter, text, .. } => format!("{filter} ({text})"),
        Verdict::Passed { .. } => "it is not chosen".into(),
    }
}

/// Says it. The write is of the Instance as it was seen.
pub async fn say(client: &Client, instance: &Instance, verdict: &ResizeVerdict) -> Result<Instance, bind::Error> {
    let patch = json!({"metadata": {
        "uid": instance.uid(),
        "resourceVersion": instance.resource_version(),
        "annotations": {labels::RESIZE: json!(verdict).to_string()},
    }});
    let params = PatchParams {
        field_manager: Some(managers::SCHEDULER.into()),
        ..PatchParams::default()
    };
    let what = "answering a resize of";
    bind::send(client, instance, what, &params, &Patch::Merge(patch)).await
}

#[cfg(test)]
mod tests;
