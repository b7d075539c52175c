//! Which backup of an Instance is due, and which are one too many?
//!
//! Time is cut into periods of `spec.backup.every`. The current period is to have a backup, and periods that passed
//! without one stay without: after an outage there is one, not a burst. Nothing is remembered but the Images themselves.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, fmt::strtime, tz::TimeZone};
use virga_crds::{
    BackupSchedule, Bytes, Image, ImageSource, ImageSpec, ImageState, ImageVisibility, Instance, InstanceSource,
    PowerState, labels,
};

/// How a backup's time is written, in its name and its label.
const FORMAT: &str = "%Y%m%dT%H%M%SZ";
/// How long to wait for the next period at a time: clocks are set.
const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// The longest name of an Image.
const MAX_NAME: usize = 63;

/// What to do about an Instance's backups.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Backups {
    /// The one to make.
    pub create: Option<Image>,
    /// The uids of those to delete.
    pub delete: Vec<String>,
    /// When to look again.
    pub again: Option<Duration>,
}

/// What to do about the backups of an Instance. `images` are all of its namespace that say that they are its backups.
pub fn backups<'a>(instance: &Instance, images: impl Iterator<Item = &'a Image>, now: Timestamp) -> Backups {
    let (Some(schedule), false) = (&instance.spec.backup, instance.metadata.deletion_timestamp.is_some()) else {
        return Backups::default();
    };
    let mut known: Vec<Known> = images
        .filter(|image| image.metadata.deletion_timestamp.is_none())
        .filter_map(|image| Known::of(image, instance))
        .collect();
    // What is of a time to come was made before the clock was set back: it is as good as the oldest.
    known.sort_by_key(|backup| (backup.at <= now, backup.at));
    let mut backups = Backups {
        delete: superfluous(&known, schedule),
        ..Backups::default()
    };
    let Some(period) = Period::current(instance, schedule, now) else {
        return backups;
    };
    backups.again = Some(period.next_in.clamp(Duration::from_secs(1), LONGEST_WAIT));
    let built = instance.status.as_ref().is_some_and(|status| status.flavor.is_some());
    let has_one = known.iter().any(|backup| backup.at >= period.begin && backup.at <= now);
    let under_way = known.iter().any(|backup| backup.stands == Stands::UnderWay);
    // The disk of what is shelved does not change, and may be on no host.
    let shelved = instance.spec.power_state == PowerState::Shelved;
    if let Some(begin) = period
        .due
        .then_some(period.begin)
        .filter(|_| built && !shelved && !has_one && !under_way)
    {
        backups.create = Some(image(instance, schedule, begin));
    }
    backups
}

/// Those beyond the rotation, the oldest first. Only what is whole counts, so that nothing goes before its successor is
/// there. Of those that failed the newest is kept, for its message.
fn superfluous(known: &[Known], schedule: &BackupSchedule) -> Vec<String> {
    let of = |stands: Stands| known.iter().filter(move |backup| backup.stands == stands);
    let excess = of(Stands::Whole).count().saturating_sub(usize::from(schedule.rotation));
    let failed = of(Stands::Failed).count().saturating_sub(1);
    let too_many = of(Stands::Whole).take(excess).chain(of(Stands::Failed).take(failed));
    too_many.map(|backup| backup.uid.clone()).collect()
}

/// A backup that is there.
struct Known {
    uid: String,
    at: Timestamp,
    stands: Stands,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    UnderWay,
    Whole,
    Failed,
}

impl Known {
    fn of(image: &Image, instance: &Instance) -> Option<Self> {
        let labels = image.metadata.labels.as_ref()?;
        let uid = image.metadata.uid.clone()?;
        if labels.get(labels::BACKUP_OF) != instance.metadata.uid.as_ref() {
            return None;
        }
        Some(Self {
            uid,
            at: read(labels.get(labels::BACKUP_AT)?)?,
            stands: match image.status.as_ref().and_then(|status| status.state) {
                Some(ImageState::Active) => Stands::Whole,
                Some(ImageState::Error) => Stands::Failed,
                _ => Stands::UnderWay,
            },
        })
    }
}

/// The period that it is now.
struct Period {
    begin: Timestamp,
    /// Whether it is to have a backup.
    due: bool,
    next_in: Duration,
}

impl Period {
    fn current(instance: &Instance, schedule: &BackupSchedule, now: Timestamp) -> Option<Self> {
        let created = instance.metadata.creation_timestamp.as_ref()?.0;
        let first = schedule.starting_at.as_ref().map_or(created, |at| at.0);
        // Checked by the schema; one that passed it is longer than nothing.
        let every = schedule.every.parse::<SignedDuration>().ok()?.as_secs();
        if every <= 0 {
            return None;
        }
        let passed = now.as_second().checked_sub(first.as_second())?;
        let number = passed.div_euclid(every);
        let begin = first.as_second().checked_add(number.checked_mul(every)?)?;
        let next = begin.checked_add(every)?;
        Some(Self {
            begin: Timestamp::from_second(begin).ok()?,
            // A new Instance has nothing to be backed up yet.
            due: number >= i64::from(schedule.starting_at.is_none()),
            next_in: Duration::from_secs(u64::try_from(next - now.as_second()).unwrap_or_default()),
        })
    }
}

fn read(text: &str) -> Option<Timestamp> {
    let civil = strtime::parse(FORMAT, text).ok()?.to_datetime().ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn written(at: Timestamp) -> String {
    at.strftime(FORMAT).to_string()
}

/// The Image that is the backup of this time. It has no owner: a backup outlives what it was made of.
fn image(instance: &Instance, schedule: &BackupSchedule, at: Timestamp) -> Image {
    let name = instance.metadata.name.clone().unwrap_or_default();
    let uid = instance.metadata.uid.clone().unwrap_or_default();
    let spec = ImageSpec {
        source: ImageSource {
            instance: Some(InstanceSource {
                name: name.clone(),
                quiesce: schedule.quiesce,
            }),
            ..ImageSource::default()
        },
        disk_format: None,
        visibility: ImageVisibility::Private,
        min_disk: Bytes::ZERO,
        min_memory: Bytes::ZERO,
        properties: std::collections::BTreeMap::default(),
    };
    let mut image = Image::new(&image_name(&name, &uid, at), spec);
    image.metadata.namespace.clone_from(&instance.metadata.namespace);
    image.metadata.labels = Some(
        [
            (labels::INSTANCE.to_owned(), name),
            (labels::BACKUP_OF.to_owned(), uid),
            (labels::BACKUP_AT.to_owned(), written(at)),
        ]
        .into(),
    );
    image
}

/// The same for the same time, so that one that was made by a controller which died right after is not made twice.
fn image_name(instance: &str, uid: &str, at: Timestamp) -> String {
    let end = format!("-backup-{}", written(at).to_lowercase());
    let room = MAX_NAME.saturating_sub(end.len());
    if instance.len() <= room {
        return format!("{instance}{end}");
    }
    // Two long names may begin alike.
    let number = uid.get(..8).unwrap_or(uid);
    let begin = instance
        .get(..room.saturating_sub(number.len() + 1))
        .unwrap_or_default();
    format!("{}-{number}{end}", begin.trim_end_matches(['-', '.']))
}

#[cfg(test)]
mod tests;
