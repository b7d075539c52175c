use jiff::Timestamp;
use virga_crds::{
    CachedImage, CachedImageState, Image, ImageHolder, ImageNodes, ImageState, ImageStatus, Instance,
    conditions::Reason,
};

use super::snapshot::{self, Maker};
use crate::{
    condition::{Conditions, Progress},
    protection::{Protection, protection},
    uses::User,
};

/// Progress is told in steps of so many percent, so that a download costs ten writes and not a thousand.
const STEP: i32 = 10;
/// How many of the nodes that have an image are told of.
const HOLDERS: usize = 4;

/// What one node's agent says of the image.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// The node.
    pub node: &'a str,
    /// Where its agent is reached by others, if it is.
    pub address: Option<&'a str>,
    /// What it says.
    pub image: &'a CachedImage,
}

/// A node that could fetch an image: its Hypervisor is Ready.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Importer<'a> {
    /// How many images it is fetching.
    pub busy: usize,
    /// The node.
    pub node: &'a str,
}

/// Where an image's bytes come from.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// From where every host can fetch them.
    Anywhere,
    /// From an Instance's disk, on the host that has it.
    Instance {
        /// The Instance of that name, if there is one.
        instance: Option<&'a Instance>,
        /// The Image that it was made from itself, if that is there still.
        image: Option<&'a Image>,
    },
}

/// What to do about an image, given the reports of the nodes that are alive.
pub fn plan<'a>(
    image: &Image,
    reports: &[Report<'_>],
    importers: &[Importer<'_>],
    origin: Origin<'_>,
    users: impl Iterator<Item = &'a User>,
    now: Timestamp,
) -> (Protection, ImageStatus) {
    let old = image.status.clone().unwrap_or_default();
    let old_holders = old.holders.clone();
    let protection = protection(&image.metadata, users);
    let conditions = Conditions::new(&old.conditions, image.metadata.generation, now);
    let count = |state| {
        let nodes = reports.iter().filter(|report| report.image.state == state).count();
        i32::try_from(nodes).unwrap_or(i32::MAX)
    };
    let status = ImageStatus {
        observed_generation: image.metadata.generation,
        nodes: Some(ImageNodes {
            cached: count(CachedImageState::Cached),
            pulling: count(CachedImageState::Pulling),
        }),
        conditions: Vec::new(),
        ..old
    };
    let imported = imported(&status, reports);
    let mut status = match imported {
        Some(facts) => match origin {
            Origin::Anywhere => active(status, facts, conditions),
            Origin::Instance { .. } => snapshot::kept(active(status, facts, conditions.clone()), reports, conditions),
        },
        None => importing(image, status, reports, importers, origin, conditions),
    };
    status.holders = holders(status.digest.as_deref(), &old_holders, reports);
    if let Protection::InUse(message) = &protection {
        let mut conditions = Conditions::new(&status.conditions, image.metadata.generation, now);
        conditions.set_ready(Progress::Working, Reason::InUse, message);
        status.conditions = conditions.into_vec();
    }
    if image.metadata.deletion_timestamp.is_some() {
        status.state = Some(ImageState::Deleting);
    }
    (protection, status)
}

/// Some nodes that have the image's bytes. Those that were told before stay as long as they have them, so that a node more
/// is no write more.
fn holders(digest: Option<&str>, before: &[ImageHolder], reports: &[Report<'_>]) -> Vec<ImageHolder> {
    let Some(digest) = digest else { return Vec::new() };
    let has = |report: &&Report<'_>| {
        report.image.state == CachedImageState::Cached && report.image.digest.as_deref() == Some(digest)
    };
    let mut holders: Vec<ImageHolder> = reports
        .iter()
        .filter(has)
        .filter_map(|report| {
            Some(ImageHolder {
                node: report.node.into(),
                address: report.address?.into(),
            })
        })
        .collect();
    let told = |holder: &ImageHolder| before.iter().any(|before| before.node == holder.node);
    holders.sort_by(|a, b| (!told(a), &a.node).cmp(&(!told(b), &b.node)));
    holders.truncate(HOLDERS);
    holders.sort_by(|a, b| a.node.cmp(&b.node));
    holders
}

/// What is known of the bytes once a node has verified them. The first digest that was seen is the image's for ever.
#[derive(Clone, Copy)]
enum Facts<'a> {
    Known,
    New(&'a CachedImage),
}

fn imported<'a>(status: &ImageStatus, reports: &[Report<'a>]) -> Option<Facts<'a>> {
    if status.digest.is_some() && status.virtual_size.is_some() {
        return Some(Facts::Known);
    }
    let cached = reports
        .iter()
        .filter(|report| report.image.state == CachedImageState::Cached);
    let first = cached.min_by_key(|report| (Some(report.node) != status.importer.as_deref(), report.node))?;
    Some(Facts::New(first.image))
}

fn active(status: ImageStatus, facts: Facts<'_>, mut conditions: Conditions) -> ImageStatus {
    conditions.set_ready(Progress::Done, Reason::Imported, "Instances can boot from it");
    let status = ImageStatus {
        state: Some(ImageState::Active),
        importer: None,
        progress: Some(100),
        conditions: conditions.into_vec(),
        ..status
    };
    match facts {
        Facts::Known => status,
        Facts::New(image) => ImageStatus {
            digest: image.digest.clone(),
            size: image.size,
            virtual_size: image.virtual_size,
            disk_format: image.format,
            ..status
        },
    }
}

fn importing(
    image: &Image,
    mut status: ImageStatus,
    reports: &[Report<'_>],
    importers: &[Importer<'_>],
    origin: Origin<'_>,
    mut conditions: Conditions,
) -> ImageStatus {
    let alive = |node: &str| importers.iter().any(|importer| importer.node == node);
    let importer = match origin {
        Origin::Anywhere => {
            let chosen = status.importer.clone().filter(|node| alive(node));
            chosen.or_else(|| importers.iter().min().map(|importer| importer.node.to_owned()))
        }
        Origin::Instance { instance, image: base } => match snapshot::maker(image, instance, base, alive) {
            Maker::Node { node, from } => {
                status.snapshot = Some(from);
                Some(node)
            }
            Maker::Nobody {
                progress,
                reason,
                message,
            } => {
                conditions.set_ready(progress, reason, message);
                let stuck = progress == Progress::Stuck;
                return ImageStatus {
                    state: Some(if stuck { ImageState::Error } else { ImageState::Queued }),
                    // One that began goes on with it when its host is back.
                    importer: status.importer.clone().filter(|_| !stuck),
                    progress: None,
                    conditions: conditions.into_vec(),
                    ..status
                };
            }
        },
    };
    let Some(importer) = importer else {
        let message = "no Hypervisor is Ready to import it: see `kubectl get hypervisors`";
        conditions.set_ready(Progress::Working, Reason::NoImporter, message);
        return ImageStatus {
            state: Some(ImageState::Queued),
            importer: None,
            progress: None,
            conditions: conditions.into_vec(),
            ..status
        };
    };
    let report = reports
        .iter()
        .find(|report| report.node == importer)
        .map(|report| report.image);
    let said = |image: &CachedImage| image.message.clone().unwrap_or_else(|| "no details were given".into());
    let percent = report.and_then(|image| image.progress).unwrap_or(0) / STEP * STEP;
    let (state, progress, reason, message) = match report.map(|image| (image.state, image)) {
        Some((CachedImageState::Invalid, image)) => {
            (ImageState::Error, Progress::Stuck, Reason::ImageInvalid, said(image))
        }
        Some((CachedImageState::Unreachable, image)) => {
            let message = format!("{}; {importer} tries again", said(image));
            (
                ImageState::Importing,
                Progress::Working,
                Reason::ImageUnreachable,
                message,
            )
        }
        _ => {
            let doing = if matches!(origin, Origin::Anywhere) {
                "importing"
            } else {
                "making"
            };
            let message = format!("{importer} is {doing} it: {percent} %");
            (ImageState::Importing, Progress::Working, Reason::Importing, message)
        }
    };
    conditions.set_ready(progress, reason, message);
    ImageStatus {
        state: Some(state),
        importer: Some(importer),
        progress: Some(percent),
        conditions: conditions.into_vec(),
        ..status
    }
}

#[cfg(test)]
mod tests {
    use virga_crds::{Bytes, DiskFormat, ImageSource, ImageSpec, ImageVisibility};

    use super::*;

    fn image(status: Option<ImageStatus>) -> Image {
        let source = ImageSource {
            instance: None,
            path: Some("debian.qcow2".into()),
            http: None,
        };
        let spec = ImageSpec {
            source,
            disk_format: None,
            visibility: ImageVisibility::Private,
            min_disk: Bytes::ZERO,
            min_memory: Bytes::ZERO,
            properties: std::collections::BTreeMap::default(),
        };
        let mut image = Image::new("debian", spec);
        image.status = status;
        image
    }

    fn report(state: CachedImageState) -> CachedImage {
        CachedImage {
            uid: "u".into(),
            state,
            progress: Some(57),
            digest: Some("sha256:1".into()),
            size: Some(Bytes(10)),
            virtual_size: Some(Bytes::gib(1)),
            format: Some(DiskFormat::Qcow2),
            message: Some("it is a web page".into()),
        }
    }

    fn after(status: Option<ImageStatus>, reports: &[(&str, CachedImage)], importers: &[(usize, &str)]) -> ImageStatus {
        let addresses: Vec<_> = reports.iter().map(|(node, _)| format!("{node}:9192")).collect();
        let reports: Vec<_> = reports
            .iter()
            .zip(&addresses)
            .map(|((node, image), address)| Report {
                node,
                // One whose agent serves nothing.
                address: (*node != "mute").then_some(address.as_str()),
                image,
            })
            .collect();
        let importers: Vec<_> = importers.iter().map(|&(busy, node)| Importer { busy, node }).collect();
        plan(
            &image(status),
            &reports,
            &importers,
            Origin::Anywhere,
            [].iter(),
            Timestamp::UNIX_EPOCH,
        )
        .1
    }

    fn reason(status: &ImageStatus) -> &str {
        &status.conditions[0].reason
    }

    #[test]
    fn without_a_host_it_waits_and_says_so() {
        let status = after(None, &[], &[]);
        assert_eq!(
            (status.state, reason(&status)),
            (Some(ImageState::Queued), "NoImporter")
        );
    }

    #[test]
    fn the_least_busy_host_imports_and_keeps_at_it() {
        let first = after(None, &[], &[(2, "a"), (0, "c"), (0, "b")]);
        assert_eq!(first.importer.as_deref(), Some("b"));
        let later = after(
            Some(first),
            &[("b", report(CachedImageState::Pulling))],
            &[(0, "a"), (5, "b")],
        );
        assert_eq!((later.importer.as_deref(), later.progress), (Some("b"), Some(50)));
    }

    #[test]
    fn a_lost_importer_is_replaced() {
        let first = after(None, &[], &[(0, "a")]);
        assert_eq!(after(Some(first), &[], &[(0, "b")]).importer.as_deref(), Some("b"));
    }

    #[test]
    fn what_is_no_image_is_the_users_to_mend_and_what_is_out_of_reach_is_tried_again() {
        let first = after(None, &[], &[(0, "a")]);
        let invalid = after(
            Some(first.clone()),
            &[("a", report(CachedImageState::Invalid))],
            &[(0, "a")],
        );
        assert_eq!(
            (invalid.state, reason(&invalid)),
            (Some(ImageState::Error), "ImageInvalid")
        );
        assert!(invalid.conditions.iter().any(|c| c.type_ == "Stalled"));
        let unreachable = after(
            Some(first),
            &[("a", report(CachedImageState::Unreachable))],
            &[(0, "a")],
        );
        assert!(unreachable.conditions.iter().any(|c| c.type_ == "Reconciling"));
    }

    #[test]
    fn the_first_digest_is_for_ever() {
        let first = after(None, &[("a", report(CachedImageState::Cached))], &[(0, "a")]);
        assert_eq!(
            (first.state, first.digest.as_deref()),
            (Some(ImageState::Active), Some("sha256:1"))
        );
        let other = CachedImage {
            digest: Some("sha256:2".into()),
            ..report(CachedImageState::Cached)
        };
        let later = after(Some(first), &[("b", other)], &[(0, "b")]);
        assert_eq!(
            (later.digest.as_deref(), later.nodes.map(|n| n.cached)),
            (Some("sha256:1"), Some(1))
        );
        assert_eq!(later.importer, None);
    }

    #[test]
    fn a_few_of_those_that_have_it_are_told_and_stay_so() {
        let names =
            |status: &ImageStatus| -> Vec<String> { status.holders.iter().map(|holder| holder.node.clone()).collect() };
        let cached = |node| (node, report(CachedImageState::Cached));
        let importing = after(None, &[("a", report(CachedImageState::Pulling))], &[(0, "a")]);
        assert!(names(&importing).is_empty());
        let first = after(Some(importing), &[cached("f"), cached("mute")], &[]);
        assert_eq!(names(&first), ["f"]);
        assert_eq!(first.holders[0].address, "f:9192");
        let all = ["a", "b", "c", "d", "f"].map(cached);
        let four = after(Some(first), &all, &[]);
        assert_eq!(names(&four), ["a", "b", "c", "f"], "the one that was told stays");
        let other = CachedImage {
            digest: Some("sha256:2".into()),
            ..report(CachedImageState::Cached)
        };
        let left = after(Some(four), &[cached("d"), ("b", other)], &[]);
        assert_eq!(names(&left), ["d"], "other bytes are not the image");
    }
}
