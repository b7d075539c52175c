//! What is stored, and what has happened to it?

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use crate::{
    clock::FakeClock,
    fault::Fault,
    log::Request,
    managed::Owner,
    resource::{Served, built_in},
};

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub group: String,
    pub plural: String,
    /// Empty for kinds of the cluster.
    pub namespace: String,
    pub name: String,
}

/// An object and the owners of its fields.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// Without `managedFields`.
    pub object: Value,
    pub owners: Vec<Owner>,
    pub api_version: String,
}

impl Stored {
    /// As a client sees it.
    pub(crate) fn render(&self) -> Value {
        let mut object = self.object.clone();
        if !self.owners.is_empty() {
            let entries: Vec<Value> = self.owners.iter().map(|owner| owner.entry(&self.api_version)).collect();
            object["metadata"]["managedFields"] = entries.into();
        }
        object
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Added,
    Modified,
    Deleted,
}

/// One thing that happened.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub version: u64,
    pub key: Key,
    pub kind: Kind,
    pub object: Arc<Value>,
    pub before: Option<Arc<Value>>,
}

/// All that the server knows.
#[derive(Debug)]
pub(crate) struct State {
    pub clock: FakeClock,
    pub served: Vec<Arc<Served>>,
    pub objects: BTreeMap<Key, Stored>,
    pub history: Vec<Change>,
    pub version: u64,
    /// Watches cannot begin before this version any more.
    pub compacted: u64,
    pub log: Vec<Request>,
    pub faults: Vec<Fault>,
    pub strict_namespaces: bool,
    /// Watches do not hear of changes for now.
    pub held: bool,
    /// Watches of an earlier one end.
    pub watch_epoch: u64,
    /// Watches of an earlier one end with 410.
    pub expire_epoch: u64,
    made: u64,
}

impl State {
    pub(crate) fn new(clock: FakeClock) -> Self {
        Self {
            clock,
            served: built_in().into_iter().map(Arc::new).collect(),
            objects: BTreeMap::new(),
            history: Vec::new(),
            version: 1,
            compacted: 0,
            log: Vec::new(),
            faults: Vec::new(),
            strict_namespaces: false,
            held: false,
            watch_epoch: 0,
            expire_epoch: 0,
            made: 0,
        }
    }

    /// Serves a kind, instead of what had its name before.
    pub(crate) fn serve(&mut self, served: Served) {
        self.served
            .retain(|known| (&known.group, &known.plural) != (&served.group, &served.plural));
        self.served.push(Arc::new(served));
    }

    pub(crate) fn now(&self) -> String {
        format!("{:.0}", self.clock.now())
    }

    /// A number that no other object has: the source of UIDs and generated names.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    /// Stores, replaces or (with `None`) removes, and tells the watches.
    pub(crate) fn record(&mut self, key: Key, stored: Option<&Stored>) -> Stored {
        self.version += 1;
        let before = self.objects.get(&key).cloned();
        let kind = match (&before, &stored) {
            (None, _) => Kind::Added,
            (Some(_), Some(_)) => Kind::Modified,
            (Some(_), None) => Kind::Deleted,
        };
        let mut current = stored.or(before.as_ref()).cloned().expect("something is stored or was");
        current.object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.history.push(Change {
            version: self.version,
            key: key.clone(),
            kind,
            object: Arc::new(current.render()),
            before: before.map(|before| Arc::new(before.render())),
        });
        if stored.is_some() {
            self.objects.insert(key, current.clone());
        } else {
            self.objects.remove(&key);
        }
        current
    }

    /// The objects of a kind, in a namespace or all, in the order of their names.
    pub(crate) fn objects_of<'a>(
        &'a self,
        served: &'a Served,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Key, &'a Stored)> {
        self.objects.iter().filter(move |(key, _)| {
            key.group == served.group
                && key.plural == served.plural
                && namespace.is_none_or(|namespace| key.namespace == namespace)
        })
    }

    /// Deletes what has owners, none of which is there any more, again and again until nothing is left to delete. An
    /// object with finalizers is marked and stays.
    pub(crate) fn collect_garbage(&mut self) {
        loop {
            let uids: Vec<Value> = self
                .objects
                .values()
                .map(|stored| stored.object["metadata"]["uid"].clone())
                .collect();
            let orphan = self.objects.iter().find(|(_, stored)| {
                let metadata = &stored.object["metadata"];
                let owners = metadata["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
                metadata.get("deletionTimestamp").is_none()
                    && !owners.is_empty()
                    && !owners.iter().any(|owner| uids.contains(&owner["uid"]))
            });
            let Some(key) = orphan.map(|(key, _)| key.clone()) else {
                return;
            };
            self.remove(&key);
        }
    }

    /// Removes an object, or marks it if it has finalizers. Returns what is left of it.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Stored> {
        let mut stored = self.objects.get(key)?.clone();
        let metadata = &mut stored.object["metadata"];
        if metadata["finalizers"].as_array().is_none_or(Vec::is_empty) {
            self.record(key.clone(), None);
            return None;
        }
        if metadata.get("deletionTimestamp").is_some() {
            return Some(stored);
        }
        metadata["deletionTimestamp"] = self.now().into();
        metadata["deletionGracePeriodSeconds"] = json!(0);
        if let Some(generation) = metadata.get("generation").and_then(Value::as_i64) {
            metadata["generation"] = json!(generation + 1);
        }
        Some(self.record(key.clone(), Some(&stored)))
    }
}
