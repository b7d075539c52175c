use virga_crds::{Flavor, Instance};

use crate::{
    fixtures,
    world::{NAMESPACE, World},
};

#[tokio::test(start_paused = true)]
async fn a_flavor_counts_its_instances_and_outlives_them() {
    let world = World::start().await;
    world.api.create(&fixtures::flavor("m1.small"));
    world.instance("web-1", Some("a"), |_| {});
    world.instance("web-2", None, |_| {});
    world.settle().await;
    let flavor = || world.api.read::<Flavor>(None, "m1.small");
    assert_eq!(flavor().unwrap().status.unwrap().instances, 2);
    assert_eq!(world.ready::<Flavor>(None, "m1.small").0, "True/AsSpecified");

    world.api.delete::<Flavor>(None, "m1.small");
    world.settle().await;
    let (ready, message) = world.ready::<Flavor>(None, "m1.small");
    assert_eq!(ready, "False/InUse");
    assert_eq!(message, "in use by Instance shop/web-1, Instance shop/web-2");

    for name in ["web-1", "web-2"] {
        world.api.delete::<Instance>(Some(NAMESPACE), name);
    }
    world.agent_lets_go("web-1");
    world.settle().await;
    assert!(flavor().is_none(), "nobody uses it any more");
}
