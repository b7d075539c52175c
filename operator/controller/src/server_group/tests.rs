use virga_crds::ServerGroup;

use crate::{
    fixtures,
    world::{NAMESPACE, World},
};

#[tokio::test(start_paused = true)]
async fn a_group_names_its_members() {
    let world = World::start().await;
    world.api.create(&fixtures::server_group("web"));
    for name in ["web-2", "web-1"] {
        world.instance(name, None, |spec| spec.server_group = Some("web".into()));
    }
    world.instance("db", None, |_| {});
    world.settle().await;
    let group = world.api.read::<ServerGroup>(Some(NAMESPACE), "web").unwrap();
    assert_eq!(group.status.unwrap().members, ["web-1", "web-2"]);
    assert_eq!(world.ready::<ServerGroup>(Some(NAMESPACE), "web").0, "True/AsSpecified");
}
