//! Which Image has the root disk of a shelved Instance, and of which shelving is it?

use jiff::{Timestamp, fmt::strtime, tz::TimeZone};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use virga_crds::{
    Bytes, Image, ImageSource, ImageSpec, ImageState, ImageVisibility, Instance, InstanceSource, Quiesce,
    conditions::types, labels,
};

use crate::instance::Cache;

/// How a shelving's time is written in the label.
const FORMAT: &str = "%Y%m%dT%H%M%SZ";
/// The longest name of an Image.
const MAX_NAME: usize = 63;

/// The Image of the name that a shelved Instance's root disk's has, as the agent found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShelvedImage {
    /// Its uid.
    pub uid: String,
    /// The shelving that it is of; nothing when it isn't of this Instance.
    pub round: Option<Timestamp>,
    /// What its bytes hash to, once it is whole.
    pub digest: Option<String>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it can't be made.
    pub failed: bool,
    /// How it stands, for people.
    pub message: String,
    /// What the node's cache has of it.
    pub cache: Cache,
}

impl ShelvedImage {
    /// What an Image is to an Instance that is to be, or is, in it.
    pub fn of(image: &Image, instance: &Instance, cache: Cache) -> Self {
        let status = image.status.as_ref();
        let state = status.and_then(|status| status.state);
        let conditions = status.map_or(&[][..], |status| &status.conditions);
        let ready = conditions.iter().find(|condition| condition.type_ == types::READY);
        // An Image that was made of another Instance has this status from the leader, whatever its labels say.
        let ours = status
            .and_then(|status| status.snapshot.as_ref())
            .is_none_or(|snapshot| Some(&snapshot.instance_uid) == instance.metadata.uid.as_ref());
        let whole = status.filter(|status| ours && status.snapshot.is_some());
        Self {
            uid: image.metadata.uid.clone().unwrap_or_default(),
            round: round(image, instance).filter(|_| ours),
            digest: whole.and_then(|status| status.digest.clone()),
            deleting: image.metadata.deletion_timestamp.is_some(),
            failed: state == Some(ImageState::Error),
            message: ready.map_or_else(|| "it is waited for".into(), |ready| ready.message.clone()),
            cache,
        }
    }
}

/// The shelving of this Instance that an Image says it is of.
pub(super) fn round(image: &Image, instance: &Instance) -> Option<Timestamp> {
    let labels = image.metadata.labels.as_ref()?;
    let source = image.spec.source.instance.as_ref()?;
    let ours = labels.get(labels::SHELVED_OF) == instance.metadata.uid.as_ref()
        && Some(&source.name) == instance.metadata.name.as_ref();
    ours.then(|| read(labels.get(labels::SHELVED_AT)?)).flatten()
}

fn read(text: &str) -> Option<Timestamp> {
    let civil = strtime::parse(FORMAT, text).ok()?.to_datetime().ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// The name of the Image that a shelved Instance's root disk is in: the same each time, and no other Instance's.
pub fn shelved_image_name(instance: &Instance) -> String {
    let name = instance.metadata.name.as_deref().unwrap_or_default();
    let end = format!("-shelved-{}", instance.metadata.uid.as_deref().unwrap_or_default());
    let room = MAX_NAME.saturating_sub(end.len());
    let begin = name.get(..room).unwrap_or(name).trim_end_matches(['-', '.']);
    format!("{begin}{end}")
}

/// The Image that the root disk is copied into. It goes with its Instance.
pub(super) fn shelved_image(instance: &Instance, round: Timestamp) -> Image {
    let name = instance.metadata.name.clone().unwrap_or_default();
    let uid = instance.metadata.uid.clone().unwrap_or_default();
    let spec = ImageSpec {
        source: ImageSource {
            instance: Some(InstanceSource {
                name: name.clone(),
                // The guest is off.
                quiesce: Quiesce::Never,
            }),
            ..ImageSource::default()
        },
        disk_format: None,
        visibility: ImageVisibility::Private,
        min_disk: Bytes::ZERO,
        min_memory: Bytes::ZERO,
        properties: std::collections::BTreeMap::default(),
    };
    let mut image = Image::new(&shelved_image_name(instance), spec);
    image.metadata.namespace.clone_from(&instance.metadata.namespace);
    image.metadata.owner_references = Some(vec![OwnerReference {
        api_version: format!("{}/{}", virga_crds::GROUP, virga_crds::VERSION),
        kind: "Instance".into(),
        name: name.clone(),
        uid: uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(false),
    }]);
    let mut named = vec![
        (labels::SHELVED_OF.to_owned(), uid),
        (labels::SHELVED_AT.to_owned(), round.strftime(FORMAT).to_string()),
    ];
    // A label has at most 63 characters, as an Instance's name.
    named.push((labels::INSTANCE.to_owned(), name));
    image.metadata.labels = Some(named.into_iter().collect());
    image
}
