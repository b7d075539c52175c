//! What a decision answers: a host, or why there is none.

use std::fmt;

use serde::Serialize;

use crate::Aspects;
use crate::filters::Why;
use crate::topology::Pinning;

/// A host was found and, unless it was a dry run, the room on it is reserved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The chosen host.
    pub host: String,
    /// How many hosts there were.
    pub hosts: u32,
    /// How many of them passed the filters; 0 when nothing was decided anew.
    pub survivors: u32,
    /// Where its cells and devices are to be, if it asks for any. The host has the last word.
    pub pinning: Option<Pinning>,
    /// Whether this is what the Instance held already.
    pub reused: bool,
}

/// No host passed the filters.
///
/// Shown as `0/12 hosts: 7 RamFilter, 3 AvailabilityZoneFilter, 2 ComputeFilter (disabled)`, the largest count first.
/// The alternate form `{:#}` adds what is meant for operators only, such as the reason of a cordon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// How many hosts there were.
    pub hosts: u32,
    /// Which filters rejected them, in the order in which they ran. Each host is counted once.
    pub rejections: Vec<Rejection>,
    /// What would have to change on some host: what the rejecting filters read.
    pub reads: Aspects,
}

/// The hosts that one filter rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejection {
    /// The filter's name.
    pub filter: &'static str,
    /// How many hosts it rejected.
    pub count: u32,
    /// Why, for those of them where there is more to say.
    pub details: Vec<Detail>,
}

/// Why a filter rejected some hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Detail {
    /// Words for everybody.
    pub text: String,
    /// Words for operators only; may be empty.
    pub note: String,
    /// How many hosts this is true of.
    pub count: u32,
}

/// How many different notes of operators are kept apart in one refusal. Further ones are counted without their words.
const MOST_DETAILS: usize = 8;

/// What one filter rejected so far, without a copy of any text.
#[derive(Debug, Default)]
#[doc(hidden)]
pub struct Tally<'a> {
    count: u32,
    details: Vec<(Why<'a>, u32)>,
}

impl<'a> Tally<'a> {
    #[inline]
    pub(crate) fn add(&mut self, why: Why<'a>) {
        self.count += 1;
        if why.text.is_empty() && why.note.is_empty() {
            return;
        }
        // Most often it is the very text of the host before: no need to compare it letter by letter.
        match self.details.last_mut() {
            Some((last, count)) if std::ptr::eq(last.text, why.text) && std::ptr::eq(last.note, why.note) => {
                *count += 1;
            }
            _ => self.add_detail(why),
        }
    }

    fn add_detail(&mut self, why: Why<'a>) {
        let without_note = Why::because(why.text);
        let known = |details: &[(Why<'a>, u32)], why| details.iter().position(|&(known, _)| known == why);
        let at = known(&self.details, why).or_else(|| {
            (self.details.len() >= MOST_DETAILS)
                .then(|| known(&self.details, without_note))
                .flatten()
        });
        match at {
            Some(at) => self.details[at].1 += 1,
            None if self.details.len() < MOST_DETAILS => self.details.push((why, 1)),
            None => self.details.push((without_note, 1)),
        }
    }

    /// The count and details, or `None` when nothing was rejected.
    pub(crate) fn into_rejection(self, filter: &'static str) -> Option<Rejection> {
        let detail = |(why, count): (Why<'_>, u32)| Detail {
            text: why.text.to_owned(),
            note: why.note.to_owned(),
            count,
        };
        (self.count > 0).then(|| Rejection {
            filter,
            count: self.count,
            details: self.details.into_iter().map(detail).collect(),
        })
    }
}

impl Rejection {
    /// The details as shown, with notes or with those that differ by their notes only taken together.
    fn shown(&self, notes: bool) -> Vec<(String, u32)> {
        let mut shown: Vec<(String, u32)> = Vec::new();
        for detail in &self.details {
            let text = match detail.note.as_str() {
                note if notes && !note.is_empty() => format!("{}: {note}", detail.text),
                _ => detail.text.clone(),
            };
            match shown.iter_mut().find(|(known, _)| *known == text) {
                Some((_, count)) => *count += detail.count,
                None => shown.push((text, detail.count)),
            }
        }
        shown
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0/{} hosts: ", self.hosts)?;
        if self.hosts == 0 {
            return f.write_str("no Hypervisor has registered");
        }
        let mut by_count: Vec<&Rejection> = self.rejections.iter().collect();
        by_count.sort_by_key(|rejection| std::cmp::Reverse(rejection.count));
        for (at, rejection) in by_count.into_iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            write!(f, "{comma}{} {}", rejection.count, rejection.filter)?;
            let details = rejection.shown(f.alternate());
            match details.as_slice() {
                [] => {}
                [(text, count)] if *count == rejection.count => write!(f, " ({text})")?,
                details => {
                    let details: Vec<String> = details.iter().map(|(text, count)| format!("{count} {text}")).collect();
                    write!(f, " ({})", details.join(", "))?;
                }
            }
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection(filter: &'static str, whys: &[(Why<'_>, u32)]) -> Rejection {
        let mut tally = Tally::default();
        for &(why, count) in whys {
            for _ in 0..count {
                tally.add(why);
            }
        }
        tally.into_rejection(filter).unwrap()
    }

    fn disabled(note: &str) -> Why<'_> {
        Why { text: "disabled", note }
    }

    #[test]
    fn a_refusal_reads_as_the_design_shows_it() {
        let refusal = Refusal {
            hosts: 12,
            rejections: vec![
                rejection("ComputeFilter", &[(disabled("new disks"), 1), (disabled(""), 1)]),
                rejection("AvailabilityZoneFilter", &[(Why::PLAIN, 3)]),
                rejection("RamFilter", &[(Why::PLAIN, 7)]),
            ],
            reads: Aspects::NONE,
        };
        assert_eq!(
            refusal.to_string(),
            "0/12 hosts: 7 RamFilter, 3 AvailabilityZoneFilter, 2 ComputeFilter (disabled)"
        );
        assert_eq!(
            format!("{refusal:#}"),
            "0/12 hosts: 7 RamFilter, 3 AvailabilityZoneFilter, 2 ComputeFilter (1 disabled: new disks, 1 disabled)"
        );
    }

    #[test]
    fn details_of_only_some_hosts_are_counted() {
        let dead = Why::because("not responding");
        let larger = Why::because("larger than the host");
        let refusal = Refusal {
            hosts: 8,
            rejections: vec![
                rejection("ComputeFilter", &[(disabled(""), 2), (dead, 1)]),
                rejection("CoreFilter", &[(Why::PLAIN, 3), (larger, 2)]),
            ],
            reads: Aspects::NONE,
        };
        assert_eq!(
            refusal.to_string(),
            "0/8 hosts: 5 CoreFilter (2 larger than the host), 3 ComputeFilter (2 disabled, 1 not responding)"
        );
    }

    #[test]
    fn an_empty_cluster_says_so() {
        let refusal = Refusal {
            hosts: 0,
            rejections: vec![],
            reads: Aspects::NONE,
        };
        assert_eq!(refusal.to_string(), "0/0 hosts: no Hypervisor has registered");
    }

    #[test]
    fn a_thousand_different_reasons_stay_bounded_and_counted() {
        let notes: Vec<String> = (0..1000).map(|n| format!("ticket {n}")).collect();
        let whys: Vec<_> = notes.iter().map(|note| (disabled(note), 1)).collect();
        let rejection = rejection("ComputeFilter", &whys);
        assert_eq!(rejection.details.len(), MOST_DETAILS + 1);
        assert_eq!(rejection.details.iter().map(|detail| detail.count).sum::<u32>(), 1000);
        let refusal = Refusal {
            hosts: 1000,
            rejections: vec![rejection],
            reads: Aspects::NONE,
        };
        assert_eq!(refusal.to_string(), "0/1000 hosts: 1000 ComputeFilter (disabled)");
    }
}
