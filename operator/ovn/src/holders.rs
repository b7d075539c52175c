//! Which Routers, FloatingIPs and LoadBalancers are there, and which addresses has each?

use std::{collections::BTreeMap, sync::Arc};

use kube::{Resource, ResourceExt, core::object::HasSpec};
use uuid::Uuid;
use virga_crds::Port;

/// `namespace`, `name`.
pub(crate) type Name = (String, String);

/// The objects of a kind, by uid and by name.
pub(crate) struct Holders<K> {
    by_uid: BTreeMap<Uuid, Arc<K>>,
    names: BTreeMap<Name, Uuid>,
}

impl<K> Default for Holders<K> {
    fn default() -> Self {
        Self {
            by_uid: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }
}

impl<K> Holders<K>
where
    K: Resource<DynamicType = ()> + HasSpec<Spec: PartialEq>,
{
    /// One is there, new or changed. The answer says whether anything that counts is; what only its status says does not.
    /// One that is being deleted is there no more.
    pub fn set(&mut self, object: &Arc<K>) -> Option<Uuid> {
        if object.meta().deletion_timestamp.is_some() {
            return self.remove(object);
        }
        let uid = uid(object.as_ref())?;
        let old = self.names.insert(name(object.as_ref()), uid);
        if let Some(old) = old.filter(|old| *old != uid) {
            self.by_uid.remove(&old);
        }
        let before = self.by_uid.insert(uid, object.clone());
        let same =
            |before: Arc<K>| before.spec() == object.spec() && before.meta().generation == object.meta().generation;
        (!before.is_some_and(same)).then_some(uid)
    }

    /// One is gone.
    pub fn remove(&mut self, object: &K) -> Option<Uuid> {
        let uid = uid(object)?;
        self.by_uid.remove(&uid)?;
        let name = name(object);
        if self.names.get(&name) == Some(&uid) {
            self.names.remove(&name);
        }
        Some(uid)
    }

    /// Those of a namespace, in the order of their names.
    pub fn within<'a>(&'a self, namespace: &str) -> impl Iterator<Item = (Uuid, &'a Arc<K>)> + use<'a, K> {
        let namespace = namespace.to_owned();
        let names = self.names.range((namespace.clone(), String::new())..);
        let own = names.take_while(move |((of, _), _)| *of == namespace);
        own.filter_map(|(_, uid)| Some((*uid, self.by_uid.get(uid)?)))
    }

    /// Those of a namespace of which this is so.
    pub fn those(&self, namespace: &str, is_so: impl Fn(&K) -> bool) -> Vec<Uuid> {
        let within = self.within(namespace);
        within.filter(|(_, object)| is_so(object)).map(|(uid, _)| uid).collect()
    }

    /// Those of a namespace, the oldest first.
    pub fn by_age(&self, namespace: &str) -> Vec<Uuid> {
        let within = self.within(namespace);
        let mut found: Vec<(i64, Uuid)> = within.map(|(uid, object)| (created(object.as_ref()), uid)).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, uid)| uid).collect()
    }

    pub fn uids(&self) -> impl Iterator<Item = Uuid> {
        self.by_uid.keys().copied()
    }

    pub fn get(&self, uid: Uuid) -> Option<&Arc<K>> {
        self.by_uid.get(&uid)
    }

    /// By namespace and name.
    pub fn named(&self, name: &Name) -> Option<Uuid> {
        self.names.get(name).copied()
    }

    /// What one is called.
    pub fn name(&self, uid: Uuid) -> Option<Name> {
        self.get(uid).map(|object| name(object.as_ref()))
    }

    pub fn generation(&self, uid: Uuid) -> Option<i64> {
        self.get(uid)?.meta().generation
    }
}

/// The Ports that are the records of addresses, by what tells one from another of the same holder.
pub(crate) struct Records<R> {
    ports: BTreeMap<(Uuid, R), Arc<Port>>,
}

impl<R> Default for Records<R> {
    fn default() -> Self {
        Self { ports: BTreeMap::new() }
    }
}

impl<R: Ord> Records<R> {
    /// The record of an address is there. The answer is whose, when that changes anything.
    pub fn set(&mut self, holder: Uuid, role: R, port: &Arc<Port>) -> Option<Uuid> {
        let old = self.ports.insert((holder, role), port.clone());
        let same = |old: Arc<Port>| old.spec == port.spec && old.metadata.uid == port.metadata.uid;
        (!old.is_some_and(same)).then_some(holder)
    }

    /// It is gone. Another one may be in its place by now.
    pub fn remove(&mut self, holder: Uuid, role: R, port: &Port) -> Option<Uuid> {
        let key = (holder, role);
        self.ports
            .get(&key)
            .filter(|known| known.metadata.uid == port.metadata.uid)?;
        self.ports.remove(&key).map(|_| holder)
    }

    pub fn get(&self, holder: Uuid, role: R) -> Option<&Arc<Port>> {
        self.ports.get(&(holder, role))
    }
}

pub(crate) fn name(object: &impl ResourceExt) -> Name {
    (object.namespace().unwrap_or_default(), object.name_any())
}

pub(crate) fn uid(object: &impl ResourceExt) -> Option<Uuid> {
    object.uid()?.parse().ok()
}

/// In seconds; what has no time of creation is the youngest.
pub(crate) fn created(object: &impl ResourceExt) -> i64 {
    let created = object.creation_timestamp();
    created.map_or(i64::MAX, |time| time.0.as_second())
}
