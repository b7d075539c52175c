use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use virga_crds::{
    BuiltFlavor, Bytes, CachedImage, ImageNodes, ImageSource, ImageSpec, ImageState, ImageVisibility, InstanceSource,
    InstanceSpec, InstanceStatus,
};

use super::*;
use crate::image::{Importer, Origin, plan};

fn image(status: Option<ImageStatus>) -> Image {
    let source = ImageSource {
        instance: Some(InstanceSource {
            name: "web-1".into(),
            ..InstanceSource::default()
        }),
        ..ImageSource::default()
    };
    let spec = ImageSpec {
        source,
        disk_format: None,
        visibility: ImageVisibility::Private,
        min_disk: Bytes::ZERO,
        min_memory: Bytes::ZERO,
        properties: std::collections::BTreeMap::default(),
    };
    let mut image = Image::new("copy", spec);
    image.status = status;
    image
}

/// One that is built, on node a.
fn instance() -> Instance {
    let mut instance = Instance::new("web-1", InstanceSpec::default());
    instance.metadata.uid = Some("uid-1".into());
    instance.spec.node_name = Some("a".into());
    instance.status = Some(InstanceStatus {
        flavor: Some(BuiltFlavor {
            disk: Bytes::gib(5),
            ..BuiltFlavor::default()
        }),
        ..InstanceStatus::default()
    });
    instance
}

fn after(status: Option<ImageStatus>, instance: Option<&Instance>, cached: &[&str], ready: &[&str]) -> ImageStatus {
    let line = CachedImage {
        uid: "u".into(),
        state: CachedImageState::Cached,
        progress: None,
        digest: Some("sha256:1".into()),
        size: Some(Bytes(10)),
        virtual_size: Some(Bytes::gib(5)),
        format: None,
        message: None,
    };
    let reports: Vec<_> = cached
        .iter()
        .map(|node| Report {
            node,
            address: None,
            image: &line,
        })
        .collect();
    let importers: Vec<_> = ready.iter().map(|node| Importer { busy: 0, node }).collect();
    let mut base = image(None);
    base.spec.properties.insert("hw_firmware_type".into(), "uefi".into());
    base.spec.min_memory = Bytes::gib(2);
    let origin = Origin::Instance {
        instance,
        image: Some(&base),
    };
    plan(
        &image(status),
        &reports,
        &importers,
        origin,
        [].iter(),
        Timestamp::UNIX_EPOCH,
    )
    .1
}

fn ready(status: &ImageStatus) -> (&str, &str) {
    (&status.conditions[0].reason, &status.conditions[0].message)
}

#[test]
fn the_host_that_has_the_disk_makes_it_however_busy_others_are() {
    let first = after(None, Some(&instance()), &[], &["b", "a"]);
    assert_eq!(
        (first.state, first.importer.as_deref()),
        (Some(ImageState::Importing), Some("a"))
    );
    assert_eq!(ready(&first), ("Importing", "a is making it: 0 %"));
    let from = first.snapshot.clone().unwrap();
    assert_eq!(
        (from.instance_uid.as_str(), from.min_disk, from.min_memory),
        ("uid-1", Bytes::gib(5), Bytes::gib(2))
    );
    assert_eq!(from.properties["hw_firmware_type"], "uefi");
    // It is moved meanwhile.
    let mut moved = instance();
    moved.spec.node_name = Some("b".into());
    let later = after(Some(first), Some(&moved), &[], &["b", "a"]);
    assert_eq!((later.importer.as_deref(), later.snapshot), (Some("b"), Some(from)));
}

#[test]
fn what_keeps_it_from_being_made_is_told_with_the_cure() {
    let unbuilt = Instance {
        status: None,
        ..instance()
    };
    let mut leaving = instance();
    leaving.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    let mut volume = instance();
    volume.spec.boot_volume = Some("root".into());
    let cases = [
        (None, "InstanceNotFound", "create it", ImageState::Queued),
        (Some(&unbuilt), "StateForbids", "not built yet", ImageState::Queued),
        (Some(&leaving), "StateForbids", "being deleted", ImageState::Queued),
        (Some(&volume), "Invalid", "boots from Volume root", ImageState::Error),
    ];
    for (instance, reason, words, state) in cases {
        let status = after(None, instance, &[], &["a"]);
        let (said, message) = ready(&status);
        assert_eq!(
            (said, status.state, status.importer.as_deref()),
            (reason, Some(state), None)
        );
        assert!(message.contains(words), "{message}");
    }
    let away = after(None, Some(&instance()), &[], &["b"]);
    assert_eq!(ready(&away).0, "NodeLost");
    assert!(
        ready(&away).1.contains("on a, which is not Ready"),
        "{:?}",
        ready(&away)
    );
}

#[test]
fn another_instance_of_the_same_name_is_another_one() {
    let first = after(None, Some(&instance()), &[], &["a"]);
    let mut other = instance();
    other.metadata.uid = Some("uid-2".into());
    for now in [None, Some(&other)] {
        let gone = after(Some(first.clone()), now, &[], &["a"]);
        assert_eq!(
            (gone.state, ready(&gone).0),
            (Some(ImageState::Error), "InstanceNotFound")
        );
        assert_eq!(gone.importer, None);
    }
    // What is made outlives its Instance.
    let made = after(Some(first), Some(&instance()), &["a"], &["a"]);
    let later = after(Some(made), None, &["a"], &[]);
    assert_eq!(
        (later.state, later.keeper.as_deref()),
        (Some(ImageState::Active), Some("a"))
    );
}

#[test]
fn the_keeper_changes_only_when_it_is_away_and_the_only_copy_is_named_when_it_is() {
    let first = after(None, Some(&instance()), &[], &["a", "c"]);
    let made = after(Some(first), Some(&instance()), &["a"], &["a"]);
    assert_eq!((made.keeper.as_deref(), ready(&made).0), (Some("a"), "Imported"));
    let pulled = after(Some(made.clone()), None, &["0", "a"], &[]);
    assert_eq!(pulled.keeper.as_deref(), Some("a"));
    let lost = after(Some(pulled), None, &["0"], &[]);
    assert_eq!((lost.keeper.as_deref(), ready(&lost).0), (Some("0"), "Imported"));
    let away = after(Some(made), None, &[], &[]);
    assert_eq!((away.state, ready(&away).0), (Some(ImageState::Active), "OnlyCopyAway"));
    assert!(ready(&away).1.contains("last seen on a"), "{:?}", ready(&away));
}

proptest! {
    /// However hosts come, go and evict what they may: as long as one copy was there, one is.
    #[test]
    fn whatever_may_be_evicted_one_copy_stays(steps in proptest::collection::vec((0..4_u8, 0..3_usize), 1..60)) {
        const NODES: [&str; 3] = ["a", "b", "c"];
        let first = after(None, Some(&instance()), &[], &NODES);
        let mut status = after(Some(first), Some(&instance()), &["a"], &NODES);
        let (mut copies, mut up) = ([true, false, false], [true; 3]);
        for (what, n) in steps {
            match what {
                0 => up[n] = !up[n],
                // Pulled from a host that is up.
                1 => copies[n] |= up[n] && (0..3).any(|m| up[m] && copies[m]),
                2 => copies[n] &= must_keep(&image(Some(status.clone())), NODES[n]),
                _ => {}
            }
            let seen: Vec<&str> = (0..3).filter(|&m| up[m] && copies[m]).map(|m| NODES[m]).collect();
            status = after(Some(status), None, &seen, &[]);
            prop_assert!(copies.contains(&true), "{status:?}");
            prop_assert_eq!(status.nodes.map(|nodes: ImageNodes| nodes.cached), Some(i32::try_from(seen.len()).unwrap()));
        }
    }
}
