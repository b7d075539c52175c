//! An object's conditions, computed anew on each pass without restless time stamps.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use virga_crds::{
    Condition, ConditionStatus,
    conditions::{Reason, types},
};

/// Messages are cut here: events and conditions are for people.
const MESSAGE_BYTES: usize = 1024;

/// The conditions of one object, begun from those it has.
///
/// `lastTransitionTime` moves only when a status does (Kubernetes API conventions), so that computing the same again
/// gives the same bytes and nothing is written.
#[derive(Clone, Debug)]
pub struct Conditions {
    old: Vec<Condition>,
    new: Vec<Condition>,
    generation: Option<i64>,
    now: Timestamp,
}

impl Conditions {
    /// Begins with none set; those of `old` give the times of transition. `generation` is the object's.
    pub fn new(old: &[Condition], generation: Option<i64>, now: Timestamp) -> Self {
        // Whole seconds: what the API keeps.
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        Self {
            old: old.to_vec(),
            new: Vec::new(),
            generation,
            now,
        }
    }

    /// Whether `Ready` held before, as of the generation that these are for; those before were of `observed`.
    pub fn was_ready(&self, observed: Option<i64>) -> bool {
        was_ready(self.generation, observed, &self.old)
    }

    /// Sets one condition, over what was set before.
    pub fn set(&mut self, kind: &str, status: impl Into<ConditionStatus>, reason: Reason, message: impl Into<String>) {
        let status = status.into().as_str();
        let before = self.old.iter().find(|c| c.type_ == kind && c.status == status);
        let condition = Condition {
            type_: kind.into(),
            status: status.into(),
            reason: reason.as_str().into(),
            message: cut(message.into()),
            last_transition_time: before.map_or(Time(self.now), |c| c.last_transition_time.clone()),
            observed_generation: self.generation,
        };
        self.remove(kind);
        self.new.push(condition);
    }

    /// Sets `Ready`, and kstatus' `Reconciling` or `Stalled` with it, which are present only while true.
    pub fn set_ready(&mut self, progress: Progress, reason: Reason, message: impl Into<String>) {
        let message = message.into();
        self.remove(types::RECONCILING);
        self.remove(types::STALLED);
        match progress {
            Progress::Done => {}
            Progress::Working => self.set(types::RECONCILING, ConditionStatus::True, reason, message.clone()),
            Progress::Stuck => self.set(types::STALLED, ConditionStatus::True, reason, message.clone()),
        }
        self.set(types::READY, progress == Progress::Done, reason, message);
    }

    /// Takes one away.
    pub fn remove(&mut self, kind: &str) {
        self.new.retain(|c| c.type_ != kind);
    }

    /// Keeps those that there were and that were not set now, but kstatus', which are present only while true.
    pub fn keep_others(&mut self) {
        let passing = [types::RECONCILING, types::STALLED];
        let others: Vec<Condition> = self
            .old
            .iter()
            .filter(|old| !passing.contains(&old.type_.as_str()) && self.get(&old.type_).is_none())
            .cloned()
            .collect();
        self.new.extend(others);
    }

    /// The one of this type, among those set on this pass.
    pub fn get(&self, kind: &str) -> Option<&Condition> {
        self.new.iter().find(|c| c.type_ == kind)
    }

    /// All that were set: `Ready` first, the others in the order of their types.
    pub fn into_vec(mut self) -> Vec<Condition> {
        self.new.sort_by(|a, b| {
            let key = |c: &Condition| (c.type_ != types::READY, c.type_.clone());
            key(a).cmp(&key(b))
        });
        self.new
    }
}

/// How an object stands towards its spec, in kstatus' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Current.
    Done,
    /// InProgress: it goes on by itself.
    Working,
    /// Failed: it needs the user.
    Stuck,
}

/// Whether a list of conditions says that this one holds.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    conditions
        .iter()
        .any(|c| c.type_ == kind && c.status == ConditionStatus::True.as_str())
}

/// Whether these conditions, said of one generation, say that an object of this one is `Ready`.
pub fn was_ready(generation: Option<i64>, observed: Option<i64>, conditions: &[Condition]) -> bool {
    observed == generation && is_true(conditions, types::READY)
}

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES {
        let end = (0..=MESSAGE_BYTES - 3)
            .rev()
            .find(|&i| message.is_char_boundary(i))
            .unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn time_moves_only_with_the_status() {
        let mut first = Conditions::new(&[], Some(1), at(10));
        first.set("Running", false, Reason::Starting, "starting");
        let first = first.into_vec();

        let mut second = Conditions::new(&first, Some(1), at(20));
        second.set("Running", false, Reason::Starting, "still starting");
        let second = second.into_vec();
        assert_eq!(second[0].last_transition_time.0, at(10));

        let mut third = Conditions::new(&second, Some(1), at(30));
        third.set("Running", true, Reason::Started, "");
        assert_eq!(third.into_vec()[0].last_transition_time.0, at(30));
    }

    #[test]
    fn ready_comes_first_and_kstatus_follows_it() {
        let mut conditions = Conditions::new(&[], None, at(0));
        conditions.set("Bound", true, Reason::Bound, "");
        conditions.set_ready(Progress::Stuck, Reason::Invalid, "no");
        conditions.set_ready(Progress::Working, Reason::Building, "yes");
        let types: Vec<_> = conditions.into_vec().into_iter().map(|c| c.type_).collect();
        assert_eq!(types, ["Ready", "Bound", "Reconciling"]);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let mut conditions = Conditions::new(&[], None, at(0));
        conditions.set("Ready", false, Reason::Invalid, "ä".repeat(4000));
        let message = &conditions.into_vec()[0].message;
        assert!(message.len() <= MESSAGE_BYTES && message.ends_with('…'));
    }
}
