use virga_crds::{Volume, VolumeAttachment, finalizers, managers};

use crate::{
    fixtures,
    world::{NAMESPACE, World},
};

#[tokio::test(start_paused = true)]
async fn a_volume_waits_for_its_first_instance_and_goes_where_that_is() {
    let world = World::start().await;
    world.api.create(&fixtures::volume("data"));
    world.settle().await;
    assert_eq!(
        world.ready::<Volume>(Some(NAMESPACE), "data").0,
        "True/WaitingForConsumer"
    );

    let names = |spec: &mut virga_crds::InstanceSpec| spec.volumes = vec![VolumeAttachment { name: "data".into() }];
    world.instance("waiting", None, names);
    world.settle().await;
    let node = || {
        world
            .api
            .read::<Volume>(Some(NAMESPACE), "data")
            .unwrap()
            .spec
            .node_name
    };
    assert_eq!(node(), None);

    world.instance("placed", Some("b"), names);
    world.settle().await;
    let volume = world.api.read::<Volume>(Some(NAMESPACE), "data").unwrap();
    assert_eq!(volume.spec.node_name.as_deref(), Some("b"));
    assert_eq!(volume.metadata.finalizers, Some(vec![finalizers::AGENT.to_owned()]));
    assert_eq!(
        world
            .api
            .managers_of_field("volumes", Some(NAMESPACE), "data", "spec.nodeName"),
        [managers::SCHEDULER.to_owned()].into()
    );
    assert!(
        volume.status.unwrap_or_default().conditions.is_empty(),
        "the status is the agent's from now on"
    );
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_was_never_used_is_deleted_at_once() {
    let world = World::start().await;
    world.api.create(&fixtures::volume("data"));
    world.settle().await;
    world.api.delete::<Volume>(Some(NAMESPACE), "data");
    world.settle().await;
    assert!(world.api.read::<Volume>(Some(NAMESPACE), "data").is_none());
}
