//! Backups: Images of Instances' root disks, made again and again, of which some are kept. What is due is decided in
//! [`virga_core::instance::backups`].

use std::{future::Future, sync::Arc};

use futures::StreamExt as _;
use kube::{ResourceExt as _, runtime::Controller};
use tokio_util::sync::CancellationToken;
use virga_core::instance::{Backups, backups};
use virga_crds::{Image, Instance, labels};
use virga_runtime::{
    apply,
    reconcile::{self, Done, Reconcile, Settings, object_ref},
};

use crate::{Context, stores::Watches};

struct BackupLoop {
    context: Arc<Context>,
}

/// The loop over the Instances that are to be backed up.
pub fn controller(
    context: Arc<Context>,
    watches: &Watches,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let asked = watches
        .instances
        .applied()
        .filter(|instance| std::future::ready(instance.spec.backup.is_some()));
    let of_image = |image: Arc<Image>| {
        let labels = image.labels();
        let instance = labels
            .get(labels::INSTANCE)
            .filter(|_| labels.contains_key(labels::BACKUP_OF));
        instance.map(|instance| object_ref(image.namespace().as_deref(), instance))
    };
    let controller = Controller::for_shared_stream(asked, watches.instances.store())
        .watches_shared_stream(watches.images.touched(), of_image);
    let metrics = context.metrics.clone();
    reconcile::run(BackupLoop { context }, controller, Settings::default(), metrics, stop)
}

impl Reconcile for BackupLoop {
    type Kind = Instance;
    type Error = apply::Error;

    fn name(&self) -> &'static str {
        "backup"
    }

    async fn reconcile(&self, instance: Arc<Instance>) -> Result<Done, apply::Error> {
        if instance.spec.backup.is_none() {
            return Ok(Done::unchanged());
        }
        let namespace = instance.namespace();
        let images = self.context.stores.images.state();
        let of_it: Vec<_> = images
            .iter()
            .filter(|image| {
                image.namespace() == namespace
                    && image.labels().get(labels::BACKUP_OF) == instance.metadata.uid.as_ref()
            })
            .collect();
        let Backups { create, delete, again } =
            backups(&instance, of_it.iter().map(AsRef::as_ref), self.context.clock.now());
        let changed = create.is_some() || !delete.is_empty();
        for image in of_it
            .iter()
            .filter(|image| image.uid().is_some_and(|uid| delete.contains(&uid)))
        {
            self.context.writer.delete(image.as_ref()).await?;
            tracing::info!(
                namespace,
                instance = instance.name_any(),
                image = image.name_any(),
                "backup rotated out"
            );
        }
        // One of that name is there when the watch lags behind us, or a user made it: it is this period's then.
        if let Some(image) = create
            && self.context.writer.create(&image).await?.is_some()
        {
            tracing::info!(
                namespace,
                instance = instance.name_any(),
                image = image.name_any(),
                "backup begun"
            );
        }
        let done = Done::changed_if(changed);
        Ok(again.map_or(done, |again| done.again_in(again)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::SignedDuration;
    use kube::ResourceExt as _;
    use serde_json::json;
    use virga_crds::{BackupSchedule, Hypervisor, Image, ImageState, Instance, Quiesce};

    use crate::{
        fixtures,
        world::{NAMESPACE, World},
    };

    fn names(world: &World) -> BTreeSet<String> {
        let images = world.api.list::<Image>().into_iter();
        let of_it = images.filter(|image| image.name_any() != "debian");
        of_it.map(|image| image.name_any()).collect()
    }

    /// The agent makes all that there are.
    async fn made(world: &World) {
        let images = world.api.list::<Image>();
        let lines: Vec<_> = images
            .iter()
            .map(|image| {
                json!({
                    "uid": image.uid(), "state": "Cached", "digest": format!("sha256:{}", image.name_any()),
                    "size": "1Mi", "virtualSize": "1Gi", "format": "QCOW2",
                })
            })
            .collect();
        world
            .api
            .merge_status::<Hypervisor>(None, "a", json!({"images": lines}));
        world.settle().await;
    }

    #[tokio::test(start_paused = true)]
    async fn backups_are_made_in_time_and_rotated_when_the_next_is_whole() {
        let mut world = World::start().await;
        world.host("a");
        world.api.create(&fixtures::image("debian"));
        world.instance("web-1", Some("a"), |spec| {
            spec.backup = Some(BackupSchedule {
                every: "24h".into(),
                starting_at: None,
                rotation: 2,
                quiesce: Quiesce::WhenPossible,
            });
        });
        let built = json!({"flavor": {"name": "m1.small", "vcpus": 1, "memory": "1Gi", "disk": "5Gi"}});
        world.api.merge_status::<Instance>(Some(NAMESPACE), "web-1", built);
        world.settle().await;
        assert!(names(&world).is_empty(), "nothing of a new Instance");
        for day in 1..=4_usize {
            world.api.clock().jump(SignedDuration::from_hours(24));
            // What a controller knew of time is not what the next one needs.
            world.restart().await;
            assert_eq!(names(&world).len(), day.min(3), "{:?}", names(&world));
            let before = names(&world);
            world.settle().await;
            assert_eq!(names(&world), before, "none goes before the next is whole");
            made(&world).await;
            world.settle().await;
            assert_eq!(names(&world).len(), day.min(2), "{:?}", names(&world));
        }
        let kept = world.api.list::<Image>();
        let newest = kept.iter().max_by_key(|image| image.name_any()).unwrap();
        assert_eq!(newest.status.as_ref().unwrap().state, Some(ImageState::Active));
        assert!(newest.owner_references().is_empty());
        // A week without a controller is one backup.
        world.api.clock().jump(SignedDuration::from_hours(7 * 24));
        world.restart().await;
        assert_eq!(names(&world).len(), 3, "{:?}", names(&world));
        world.agent_lets_go("web-1");
        world.api.delete::<Instance>(Some(NAMESPACE), "web-1");
        made(&world).await;
        assert_eq!(names(&world).len(), 3, "they outlive their Instance");
    }
}
