use virga_crds::{VolumeSpec, conditions::types};

use super::*;
use crate::{condition::is_true, volume::Attached};

fn volume() -> Volume {
    let mut volume = Volume::new(
        "data",
        VolumeSpec {
            size: Bytes::gib(10),
            node_name: Some("node-1".into()),
            ..VolumeSpec::default()
        },
    );
    volume.metadata.generation = Some(1);
    volume.metadata.finalizers = Some(vec![finalizers::AGENT.into()]);
    volume
}

fn seen() -> Seen {
    Seen {
        node: "node-1".into(),
        file: None,
        image: None,
        attached: None,
    }
}

fn attached(use_: Use) -> Attached {
    Attached {
        instance: "web-1".into(),
        uid: "web-1-uid".into(),
        device: "vdb".into(),
        use_,
    }
}

fn now() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

fn ready(plan: &Plan) -> (String, String, String) {
    let status = plan.status.as_ref().unwrap();
    let ready = status.conditions.iter().find(|c| c.type_ == types::READY).unwrap();
    (
        format!("{:?}", status.state.unwrap()),
        ready.reason.clone(),
        ready.message.clone(),
    )
}

fn from_image(cache: Cache) -> Seen {
    Seen {
        image: Some(Image::Known {
            uid: "image-uid".into(),
            min_disk: Bytes::ZERO,
            min_memory: Bytes::ZERO,
            cache,
        }),
        ..seen()
    }
}

#[test]
fn a_blank_volume_is_made_and_then_available() {
    let size = Bytes::gib(10);
    let first = plan(&volume(), &seen(), now());
    assert_eq!(first.effects, [Effect::CreateBlank { size }]);
    let then = plan(
        &volume(),
        &Seen {
            file: Some(size),
            ..seen()
        },
        now(),
    );
    assert_eq!(then.effects, []);
    assert_eq!(
        ready(&then),
        ("Available".into(), "Available".into(), "nothing uses it".into())
    );
    assert!(is_true(&then.status.unwrap().conditions, types::READY));
}

#[test]
fn a_volume_from_an_image_waits_for_it_and_copies_it() {
    let uid = "image-uid".to_owned();
    let size = Bytes::gib(10);
    let pull = plan(&volume(), &from_image(Cache::Absent), now());
    assert_eq!(pull.effects, [Effect::PullImage { uid: uid.clone() }]);
    let wait = plan(&volume(), &from_image(Cache::Pulling(Some(30))), now());
    assert_eq!(
        (wait.effects.as_slice(), ready(&wait).2.as_str()),
        (&[][..], "fetching the image: 30 %")
    );
    let virtual_size = Bytes::gib(3);
    let copy = plan(&volume(), &from_image(Cache::Cached { virtual_size }), now());
    assert_eq!(copy.effects, [Effect::CreateFromImage { uid, size }]);
    let virtual_size = Bytes::gib(11);
    let never = plan(&volume(), &from_image(Cache::Cached { virtual_size }), now());
    assert_eq!(ready(&never).1, "ImageDoesNotFit");
}

#[test]
fn a_volume_grows_where_its_guest_allows() {
    let small = |attached| Seen {
        file: Some(Bytes::gib(5)),
        attached,
        ..seen()
    };
    let size = Bytes::gib(10);
    let offline = [Effect::Extend { size }];
    assert_eq!(plan(&volume(), &small(None), now()).effects, offline);
    assert_eq!(
        plan(&volume(), &small(Some(attached(Use::Closed))), now()).effects,
        offline
    );
    let live = Effect::ExtendLive {
        instance: "web-1-uid".into(),
        device: "vdb".into(),
        size,
    };
    assert_eq!(
        plan(&volume(), &small(Some(attached(Use::Open))), now()).effects,
        [live]
    );
    let unknown = plan(&volume(), &small(Some(attached(Use::Unknown))), now());
    assert_eq!((unknown.effects, unknown.again), (vec![], Some(LIBVIRT_AGAIN)));
}

#[test]
fn a_volume_never_shrinks() {
    let large = Seen {
        file: Some(Bytes::gib(11)),
        ..seen()
    };
    let plan = plan(&volume(), &large, now());
    assert_eq!(
        (plan.effects.as_slice(), ready(&plan).1.as_str()),
        (&[][..], "ResizeFailed")
    );
}

#[test]
fn a_volume_whose_file_was_lost_is_not_made_anew() {
    let mut volume = volume();
    volume.status = Some(VolumeStatus {
        size: Some(Bytes::gib(10)),
        ..VolumeStatus::default()
    });
    let plan = plan(&volume, &seen(), now());
    assert_eq!((plan.effects.as_slice(), ready(&plan).0.as_str()), (&[][..], "Error"));
}

#[test]
fn deleting_waits_for_the_instance_and_says_which() {
    let mut volume = volume();
    volume.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    let there = Seen {
        file: Some(Bytes::gib(10)),
        ..seen()
    };
    let used = Seen {
        attached: Some(attached(Use::Open)),
        ..there.clone()
    };
    let wait = plan(&volume, &used, now());
    assert_eq!(wait.effects, []);
    assert_eq!(
        ready(&wait),
        (
            "Deleting".into(),
            "InUse".into(),
            "Instance web-1 uses it: it is deleted when that one is".into()
        )
    );
    assert_eq!(
        plan(&volume, &there, now()).effects,
        [Effect::RemoveFile, Effect::RemoveFinalizer]
    );
    volume.spec.deletion_policy = VolumeDeletionPolicy::Retain;
    assert_eq!(
        plan(&volume, &there, now()).effects,
        [Effect::RetainFile, Effect::RemoveFinalizer]
    );
    assert_eq!(plan(&volume, &seen(), now()).effects, [Effect::RemoveFinalizer]);
}

#[test]
fn a_volume_of_another_node_is_none_of_our_business() {
    let mut volume = volume();
    volume.spec.node_name = Some("node-2".into());
    assert_eq!(plan(&volume, &seen(), now()), Plan::default());
}
