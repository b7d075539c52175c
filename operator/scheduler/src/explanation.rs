//! Why there? What is kept of each decision, and the table that says it for every host.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

use crate::{Rejection, Uid};

/// What is kept of one decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Whose it is.
    pub uid: Uid,
    /// `namespace/name` of the request.
    pub name: String,
    /// When it was made, by the caller's clock. The age of the reservation is the time since then.
    pub decided_at: Duration,
    /// The chosen host; `None` when none passed.
    pub host: Option<String>,
    /// How many hosts there were.
    pub hosts: u32,
    /// How many of them passed.
    pub survivors: u32,
    /// Which filters rejected the others, in the order in which they ran. Details are there for refusals only.
    pub rejections: Vec<Rejection>,
    /// The best three with what each weigher gave them, best first.
    pub best: Vec<Scored>,
    /// Who asked, if the caller has said so; see [`Cluster::asked_by`](crate::Cluster::asked_by).
    pub asked_by: Option<Asker>,
    /// How old the reservation was when the Instance was seen bound; see
    /// [`Cluster::seen_bound`](crate::Cluster::seen_bound).
    pub bound_after: Option<Duration>,
}

/// Who asks for a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// The create request.
    Admission,
    /// The queue of those that wait.
    Queue,
}

impl Explanation {
    /// How long ago it was decided.
    pub fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.decided_at)
    }
}

/// A host with its weight and where that comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Scored {
    /// The host.
    pub host: String,
    /// The sum of multiplier × normalised measure.
    pub weight: f64,
    /// What each weigher contributed, in the order of the profile. Weighers that had nothing to say are left out.
    pub parts: Vec<Part>,
}

/// What one weigher gave one host.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// The weigher.
    pub weigher: &'static str,
    /// What it measured, in its own unit: bytes, processors, counts.
    pub measure: f64,
    /// The measure's place among those of the hosts that passed, from 0 to 1.
    pub normalised: f64,
    /// What it is multiplied with, from the profile or the host's aggregates.
    pub multiplier: f64,
}

impl Part {
    /// What it adds to the host's weight.
    pub fn weight(&self) -> f64 {
        self.multiplier * self.normalised
    }
}

/// What every host says to one request.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// The host that a decision would choose now; `None` when none passes.
    pub chosen: Option<String>,
    /// How many hosts each filter rejected first, in the order of the profile.
    pub rejections: Vec<Rejection>,
    /// Every registered host, by name.
    pub hosts: Vec<HostVerdict>,
}

/// What one host says to one request.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostVerdict {
    /// The host.
    pub host: String,
    /// Whether it passes.
    pub verdict: Verdict,
}

/// Whether a host passes, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It does.
    #[serde(rename_all = "camelCase")]
    Passed {
        /// Its weight.
        weight: f64,
        /// What each weigher contributed.
        parts: Vec<Part>,
    },
    /// It does not.
    #[serde(rename_all = "camelCase")]
    Rejected {
        /// The first filter that rejects it.
        filter: &'static str,
        /// Why, in words for everybody; empty when the filter's name says all.
        text: String,
        /// Words for operators only, such as the reason of a cordon; may be empty.
        note: String,
    },
}

/// The last decisions, each found by its UID. When full, the oldest makes room.
#[derive(Debug, Clone)]
pub(crate) struct Decisions {
    most: usize,
    kept: VecDeque<Explanation>,
    /// The number of the first one in `kept`.
    first: u64,
    /// The number of the last decision for each UID.
    by_uid: HashMap<Uid, u64>,
}

impl Default for Decisions {
    fn default() -> Self {
        Self {
            most: Self::MOST,
            kept: VecDeque::new(),
            first: 0,
            by_uid: HashMap::new(),
        }
    }
}

impl Decisions {
    /// As many as are kept unless told otherwise: a few megabytes.
    const MOST: usize = 4096;

    /// Keeps at most so many from now on.
    pub(crate) fn keep(&mut self, most: usize) {
        self.most = most;
        while self.kept.len() > most {
            self.drop_oldest();
        }
    }

    pub(crate) fn add(&mut self, explanation: Explanation) {
        if self.most == 0 {
            return;
        }
        if self.kept.len() >= self.most {
            self.drop_oldest();
        }
        let number = self.first + self.kept.len() as u64;
        self.by_uid.insert(explanation.uid.clone(), number);
        self.kept.push_back(explanation);
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.kept.pop_front() else { return };
        if self.by_uid.get(&oldest.uid) == Some(&self.first) {
            self.by_uid.remove(&oldest.uid);
        }
        self.first += 1;
    }

    /// The last decision for a UID, if it is still kept.
    pub(crate) fn of(&self, uid: &Uid) -> Option<&Explanation> {
        let at = self.by_uid.get(uid)? - self.first;
        self.kept.get(usize::try_from(at).ok()?)
    }

    pub(crate) fn of_mut(&mut self, uid: &Uid) -> Option<&mut Explanation> {
        let at = self.by_uid.get(uid)? - self.first;
        self.kept.get_mut(usize::try_from(at).ok()?)
    }

    /// Files the last decision for one UID under another, and a name.
    pub(crate) fn rename(&mut self, from: &Uid, to: &Uid, name: &str) {
        let Some(number) = self.by_uid.remove(from) else { return };
        let at = usize::try_from(number - self.first).ok();
        if let Some(kept) = at.and_then(|at| self.kept.get_mut(at)) {
            kept.uid = to.clone();
            if kept.name != name {
                name.clone_into(&mut kept.name);
            }
            self.by_uid.insert(to.clone(), number);
        }
    }

    /// Newest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Explanation> + '_ {
        self.kept.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(uid: &str, seconds: u64) -> Explanation {
        Explanation {
            uid: Uid::from(uid),
            name: format!("shop/{uid}"),
            decided_at: Duration::from_secs(seconds),
            host: None,
            hosts: 0,
            survivors: 0,
            rejections: Vec::new(),
            best: Vec::new(),
            asked_by: None,
            bound_after: None,
        }
    }

    #[test]
    fn the_last_decision_for_each_is_found_until_newer_ones_push_it_out() {
        let mut decisions = Decisions::default();
        decisions.keep(3);
        for (uid, seconds) in [("a", 1), ("b", 2), ("a", 3), ("c", 4)] {
            decisions.add(decision(uid, seconds));
        }
        let at = |decisions: &Decisions, uid: &str| decisions.of(&Uid::from(uid)).map(|kept| kept.decided_at.as_secs());
        assert_eq!((at(&decisions, "a"), at(&decisions, "b")), (Some(3), Some(2)));
        decisions.add(decision("d", 5));
        assert_eq!((at(&decisions, "a"), at(&decisions, "b")), (Some(3), None));
        assert_eq!(
            decisions
                .iter()
                .map(|kept| kept.decided_at.as_secs())
                .collect::<Vec<_>>(),
            [5, 4, 3]
        );
        decisions.rename(&Uid::from("c"), &Uid::from("e"), "shop/web-x7k2p");
        assert_eq!(decisions.of(&Uid::from("e")).unwrap().name, "shop/web-x7k2p");
        assert_eq!((at(&decisions, "c"), at(&decisions, "e")), (None, Some(4)));
        decisions.keep(1);
        assert_eq!((at(&decisions, "c"), at(&decisions, "d")), (None, Some(5)));
        assert_eq!(decisions.by_uid.len(), 1, "nothing is left of the others");
    }

    #[test]
    fn none_are_kept_where_none_are_wanted() {
        let mut decisions = Decisions::default();
        decisions.keep(0);
        decisions.add(decision("a", 1));
        assert_eq!(decisions.iter().count(), 0);
    }
}
