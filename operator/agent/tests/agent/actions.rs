//! Who did what and when, in `status.actions`.

use k8s_openapi::jiff::SignedDuration;
use serde_json::json;
use virga_crds::{ActionName, ActionResult, Instance, InstanceAction, labels};

use crate::world::{World, uid};

fn actions(world: &World) -> Vec<InstanceAction> {
    world.read::<Instance>("web-1").unwrap().status.unwrap().actions
}

fn names(world: &World) -> Vec<(ActionName, Option<ActionResult>)> {
    actions(world).iter().map(|row| (row.action, row.result)).collect()
}

/// As admission does with each change.
fn asks(world: &World, user: &str, spec: &serde_json::Value) {
    let field = spec.as_object().unwrap().keys().next().unwrap();
    let noted = json!({"create": "alice", field: user}).to_string();
    let change = json!({"metadata": {"annotations": {labels::REQUESTED_BY: noted}}, "spec": spec});
    world.api.merge::<Instance>(Some("shop"), "web-1", change);
}

#[test]
fn each_action_has_its_user_its_times_and_its_result_also_after_the_agent_is_restarted() {
    let mut world = World::with_agent();
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    assert_eq!(names(&world), [(ActionName::Create, Some(ActionResult::Succeeded))]);
    assert_eq!(
        Some(&actions(&world)[0].started_at),
        instance.metadata.creation_timestamp.as_ref()
    );

    // The guest doesn't hear the power button: its stop is under way while the agent is killed.
    world.host.set_obeys_shutdown(uid(&instance), false);
    asks(&world, "bob", &json!({"powerState": "Stopped"}));
    world.eventually("the stop is told of", || actions(&world).len() == 2);
    let begun = actions(&world)[0].clone();
    assert_eq!((begun.action, begun.result), (ActionName::Stop, None));
    assert_eq!(
        (begun.requested_by.as_deref(), begun.value.as_deref()),
        (Some("bob"), Some("Stopped"))
    );
    world.kill();
    world.api.clock().jump(SignedDuration::from_mins(2));
    world.start();
    world.await_ready("web-1");
    let ended = actions(&world)[0].clone();
    assert_eq!(
        (ended.action, ended.result),
        (ActionName::Stop, Some(ActionResult::Succeeded))
    );
    assert_eq!(ended.started_at, begun.started_at, "it is the same action");
    assert!(ended.finished_at.unwrap().0.duration_since(begun.started_at.0) >= SignedDuration::from_mins(2));

    asks(&world, "carol", &json!({"powerState": "Running"}));
    world.await_ready("web-1");
    world.eventually("a user hears of it", || {
        let events = world.writes_about("web-1");
        let told = |words: &str| {
            events
                .iter()
                .any(|event| event.body["note"].as_str().is_some_and(|note| note.contains(words)))
        };
        told("Stop by bob, 1") && told("Start by carol")
    });
    let rows: Vec<_> = names(&world).into_iter().map(|(name, _)| name).collect();
    assert_eq!(rows, [ActionName::Start, ActionName::Stop, ActionName::Create]);
}

#[test]
fn a_guest_that_is_started_again_by_itself_is_nobody_s_action() {
    let world = World::with_agent();
    let instance = world.guest("web-1", "10.0.0.5");
    world.await_ready("web-1");
    world.api.clock().jump(SignedDuration::from_mins(20));
    world.host.crash_guest(uid(&instance));
    world.settle();
    world.await_ready("web-1");
    assert_eq!(names(&world).len(), 1);
}
