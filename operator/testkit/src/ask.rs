//! What a test asks afterwards: who asked for what, and who owns which field?

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::FakeApi,
    log::{Request, Verb},
    path::{Paths, Step},
};

impl FakeApi {
    /// Where the log is now.
    pub fn mark(&self) -> usize {
        self.shared.lock().log.len()
    }

    /// All requests so far.
    pub fn log(&self) -> Vec<Request> {
        self.shared.lock().log.clone()
    }

    /// The log as text, one line per request.
    pub fn story(&self) -> String {
        self.log()
            .iter()
            .fold(String::new(), |story, request| story + &request.to_string() + "\n")
    }

    /// The requests since a mark, without watches: one that ends in time and begins again is no work.
    pub fn requests_since(&self, mark: usize) -> Vec<Request> {
        self.log()
            .split_off(mark)
            .into_iter()
            .filter(|request| request.verb != Verb::Watch)
            .collect()
    }

    /// The requests that would change this object, to any of its doors, whatever came of them.
    pub fn writes_to(&self, plural: &str, namespace: Option<&str>, name: &str) -> Vec<Request> {
        let to_it = |request: &Request| {
            request.verb.writes()
                && request.resource == plural
                && request.namespace.as_deref() == namespace
                && request.name.as_deref() == Some(name)
        };
        self.log().into_iter().filter(to_it).collect()
    }

    /// The field managers that own something at or under a field, given as `spec.nodeName`.
    pub fn managers_of_field(
        &self,
        plural: &str,
        namespace: Option<&str>,
        name: &str,
        field: &str,
    ) -> BTreeSet<String> {
        let path: Vec<Step> = field.split('.').map(|name| Step::Field(name.to_owned())).collect();
        let state = self.shared.lock();
        let object = state.objects.iter().find(|(key, _)| {
            key.plural == plural && key.namespace == namespace.unwrap_or_default() && key.name == name
        });
        let owners = object.map_or(&[][..], |(_, stored)| stored.owners.as_slice());
        let owns = |fields: &Paths| {
            fields
                .iter()
                .any(|owned| owned.starts_with(&path) || path.starts_with(owned))
        };
        owners
            .iter()
            .filter(|owner| owns(&owner.fields))
            .map(|owner| owner.who.manager.clone())
            .collect()
    }

    /// The verbs that were used, by group and resource (`instances/status`): what a Role must allow, no more, no less.
    pub fn verbs_used(&self) -> BTreeMap<(String, String), BTreeSet<&'static str>> {
        verbs(&self.log())
    }

    /// The verbs that one user used.
    pub fn verbs_used_by(&self, user: &str) -> BTreeMap<(String, String), BTreeSet<&'static str>> {
        let log: Vec<Request> = self.log().into_iter().filter(|request| request.user == user).collect();
        verbs(&log)
    }
}

fn verbs(log: &[Request]) -> BTreeMap<(String, String), BTreeSet<&'static str>> {
    let mut verbs = BTreeMap::<_, BTreeSet<_>>::new();
    for request in log {
        let used = verbs
            .entry((request.group.clone(), request.role_resource()))
            .or_default();
        used.insert(request.verb.as_str());
        // An apply that makes the object needs the right to create as well.
        if request.created {
            used.insert(Verb::Create.as_str());
        }
    }
    verbs
}
