//! Which kinds does the server serve, and by which rules?

use std::any::TypeId;

use k8s_openapi::{
    ClusterResourceScope,
    api::{
        coordination::v1::Lease,
        core::v1::{ConfigMap, Namespace, Node, Pod, Secret, Service, ServiceAccount},
        events::v1::Event,
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    },
};
use kube::{CustomResourceExt, Resource};
use serde_json::Value;

use crate::schema::{ListType, Schema};

/// A kind that is served.
// The flags are independent facts about a kind, as in its CRD or the API server's strategy for it.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub namespaced: bool,
    /// `status` is written by its own door only.
    pub status: bool,
    /// `metadata.generation` counts changes of what is neither metadata nor status.
    pub generation: bool,
    /// A replace without `resourceVersion` is taken.
    pub unconditional: bool,
    pub schema: Schema,
}

impl Served {
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// A kind that is known by its type alone: with status and generation, as most custom resources.
    pub(crate) fn of<K>() -> Self
    where
        K: Resource<DynamicType = (), Scope: 'static>,
    {
        Self {
            group: K::group(&()).into_owned(),
            version: K::version(&()).into_owned(),
            kind: K::kind(&()).into_owned(),
            plural: K::plural(&()).into_owned(),
            namespaced: TypeId::of::<K::Scope>() != TypeId::of::<ClusterResourceScope>(),
            status: true,
            generation: true,
            unconditional: false,
            schema: Schema::untyped(),
        }
    }

    /// A kind by its CustomResourceDefinition.
    pub(crate) fn of_crd<K>() -> Self
    where
        K: Resource<DynamicType = (), Scope: 'static> + CustomResourceExt,
    {
        let version = K::version(&());
        let crd = K::crd();
        let version = crd.spec.versions.into_iter().find(|known| known.name == version);
        let version = version.expect("a CRD has the version of its type");
        let schema = version.schema.and_then(|schema| schema.open_api_v3_schema);
        let schema = serde_json::to_value(schema).expect("a CRD's schema is JSON");
        Self {
            status: version.subresources.is_some_and(|doors| doors.status.is_some()),
            schema: if schema == Value::Null {
                Schema::untyped()
            } else {
                Schema::structural(schema)
            },
            ..Self::of::<K>()
        }
    }

    fn built_in<K>(status: bool, unconditional: bool) -> Self
    where
        K: Resource<DynamicType = (), Scope: 'static>,
    {
        Self {
            status,
            generation: false,
            unconditional,
            ..Self::of::<K>()
        }
    }
}

/// The kinds of Kubernetes itself that Virga uses.
pub(crate) fn built_in() -> Vec<Served> {
    let node = Served::built_in::<Node>(true, true);
    let addresses = ListType::Map(vec!["type".into()]);
    vec![
        Served::built_in::<Namespace>(true, true),
        Served {
            schema: Schema::untyped().with_list("status.addresses", addresses),
            ..node
        },
        Served::built_in::<Pod>(true, true),
        Served::built_in::<Secret>(false, true),
        Served::built_in::<ConfigMap>(false, true),
        Served::built_in::<Service>(true, true),
        Served::built_in::<ServiceAccount>(false, true),
        Served::built_in::<Lease>(false, false),
        Served::built_in::<Event>(false, true),
        Served::built_in::<Role>(false, true),
        Served::built_in::<RoleBinding>(false, true),
        Served::built_in::<ClusterRole>(false, true),
        Served::built_in::<ClusterRoleBinding>(false, true),
    ]
}
