//! What does an Instance's placement depend on?

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt};
use virga_crds::Instance;

use crate::{
    cluster::{Error, Reader, Unread, call},
    objects::Objects,
};

/// What was read.
#[derive(Debug)]
pub(super) struct Read {
    /// All that placement depends on, the Instance too.
    pub(super) objects: Objects,
    /// What of it is missing.
    pub(super) unread: Vec<Unread>,
    /// Whether the Instances and Volumes of all namespaces are there.
    pub(super) is_all: bool,
}

/// Reads an Instance.
pub(super) async fn instance(client: &Client, namespace: &str, name: &str) -> Result<Instance, Error> {
    let instances = Api::<Instance>::namespaced(client.clone(), namespace);
    call(&format!("Instance {namespace}/{name}"), instances.get(name)).await
}

/// Reads what an Instance's placement depends on.
pub(super) async fn around(client: &Client, instance: &Instance) -> Result<Read, Error> {
    let namespace = &instance.namespace().unwrap_or_default();
    let mut reader = Reader {
        client,
        namespace,
        unread: Vec::new(),
    };
    let hypervisors = reader.of_cluster("no host can be asked").await?;
    let mut objects = Objects {
        host_aggregates: if hypervisors.is_empty() {
            Vec::new()
        } else {
            reader
                .of_cluster("zones and limits that they set are not known")
                .await?
        },
        hypervisors,
        flavors: reader.of_cluster("how much the Instance needs is not known").await?,
        ..Objects::default()
    };
    let elsewhere = "those that were not read look as if they were not there";
    objects.server_groups = reader.of_namespace(elsewhere).await?;
    objects.images = reader.of_all_namespaces(elsewhere).await?.0;
    let as_they_say = "hosts are taken to be as full as their own status says";
    let (volumes, all_volumes) = reader.of_all_namespaces(as_they_say).await?;
    let (instances, all_instances) = reader.of_all_namespaces(as_they_say).await?;
    objects.volumes = volumes;
    objects.instances = instances;
    if let Some(owner) = own_namespace(&mut reader).await? {
        objects.namespaces.push(owner);
    }
    if !objects.instances.iter().any(|known| known.uid() == instance.uid()) {
        objects.instances.push(instance.clone());
    }
    Ok(Read {
        objects,
        unread: reader.unread,
        is_all: all_volumes && all_instances,
    })
}

/// The Namespace, which says whose Project it is.
async fn own_namespace(reader: &mut Reader<'_>) -> Result<Option<Namespace>, Error> {
    let name = reader.namespace;
    let what = format!("Namespace {name}");
    let found = call(&what, Api::<Namespace>::all(reader.client.clone()).get(name)).await;
    let so = "it is taken for a Project of its own";
    Ok(reader.allowed(what, so, found.map(|found| vec![found]))?.pop())
}
