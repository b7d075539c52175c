//! What is each host busy with? Counted from what the Instances say, so that it costs no write and lags behind nothing.
//!
//! Nova's `num_io_ops` and `failed_builds`. The second is what this process has seen: after a change of leader it begins
//! anew, and a host that fails still is found out by the next Instance.

use std::collections::HashMap;

use virga_crds::{Instance, InstanceState};

use super::rejection::is_rejected;

/// How much one host has to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Instances that are being built there.
    pub io_ops: u32,
    /// Builds that failed there, one after the other.
    pub failed_builds: u32,
}

/// The load of every host that has any.
#[derive(Debug, Default)]
pub(super) struct Loads(HashMap<String, Load>);

/// What an Instance is to the host that it is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Build {
    /// It is being built there.
    UnderWay(String),
    /// It was built there.
    Done(String),
    /// The host could not take it.
    Failed(String),
}

impl Build {
    pub(super) fn of(instance: &Instance) -> Option<Self> {
        let host = instance.spec.node_name.clone()?;
        let state = instance.status.as_ref().and_then(|status| status.state);
        if is_rejected(instance) {
            return Some(Self::Failed(host));
        }
        if instance.metadata.deletion_timestamp.is_some() {
            return None;
        }
        match state {
            None | Some(InstanceState::Building) => Some(Self::UnderWay(host)),
            Some(
                InstanceState::Active
                | InstanceState::Stopped
                | InstanceState::Paused
                | InstanceState::Suspended
                | InstanceState::Rescued
                | InstanceState::Resized
                | InstanceState::SoftDeleted
                | InstanceState::Shelved,
            ) => Some(Self::Done(host)),
            // What went wrong may be the image's fault, which is not the host's.
            Some(InstanceState::Error | InstanceState::Deleting) => None,
        }
    }
}

impl Loads {
    pub(super) fn of(&self, host: &str) -> Load {
        self.0.get(host).copied().unwrap_or_default()
    }

    /// An Instance was this, and is that now. `None`: it is nowhere, or was not seen before. Returns the hosts whose load
    /// has changed.
    pub(super) fn note(&mut self, before: Option<&Build>, now: Option<&Build>) -> Vec<String> {
        if before == now {
            return Vec::new();
        }
        let mut changed = Vec::new();
        let mut change = |host: &String, change: fn(&mut Load)| {
            let load = self.0.entry(host.clone()).or_default();
            let old = *load;
            change(load);
            if *load != old {
                changed.push(host.clone());
            }
            if *load == Load::default() {
                self.0.remove(host);
            }
        };
        if let Some(Build::UnderWay(host)) = before {
            change(host, |load| load.io_ops = load.io_ops.saturating_sub(1));
        }
        match now {
            Some(Build::UnderWay(host)) => change(host, |load| load.io_ops = load.io_ops.saturating_add(1)),
            // Those that were there when this process began say nothing of the present.
            Some(Build::Done(host)) if before.is_some() => change(host, |load| load.failed_builds = 0),
            Some(Build::Failed(host)) if before.is_some() => {
                change(host, |load| load.failed_builds = load.failed_builds.saturating_add(1));
            }
            _ => {}
        }
        changed.dedup();
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(io_ops: u32, failed_builds: u32) -> Load {
        Load { io_ops, failed_builds }
    }

    #[test]
    fn builds_are_counted_while_they_last_and_failures_until_one_succeeds() {
        let mut loads = Loads::default();
        let on = |build: fn(String) -> Build| build("a".to_owned());
        let (under_way, done, failed) = (on(Build::UnderWay), on(Build::Done), on(Build::Failed));
        assert_eq!(loads.note(None, Some(&under_way)), ["a"]);
        assert_eq!(loads.note(None, Some(&under_way)), ["a"]);
        assert_eq!(loads.of("a"), load(2, 0));
        assert!(loads.note(Some(&under_way), Some(&under_way)).is_empty());
        loads.note(Some(&under_way), Some(&failed));
        assert_eq!(loads.of("a"), load(1, 1));
        assert_eq!(loads.note(Some(&under_way), Some(&done)), ["a"]);
        assert_eq!(loads.of("a"), load(0, 0));
        assert!(loads.0.is_empty(), "a host without load takes no room");
    }

    #[test]
    fn one_that_goes_or_moves_is_no_longer_under_way_where_it_was() {
        let mut loads = Loads::default();
        let (a, b) = (Build::UnderWay("a".into()), Build::UnderWay("b".into()));
        loads.note(None, Some(&a));
        assert_eq!(loads.note(Some(&a), Some(&b)), ["a", "b"]);
        assert_eq!((loads.of("a"), loads.of("b")), (load(0, 0), load(1, 0)));
        assert_eq!(loads.note(Some(&b), None), ["b"]);
        assert_eq!(loads.of("b"), load(0, 0));
    }

    #[test]
    fn what_was_so_before_this_process_began_is_no_news() {
        let mut loads = Loads::default();
        assert!(loads.note(None, Some(&Build::Failed("a".into()))).is_empty());
        assert!(loads.note(None, Some(&Build::Done("a".into()))).is_empty());
    }
}
