//! Decisions: made, tried without effect, and explained.

use std::time::Duration;

use super::Cluster;
use crate::allocation::{Allocation, Claim, Wanted};
use crate::decide::{Choice, decide, verdicts};
use crate::{Ask, Asker, Event, Explanation, Placement, Refusal, Rejection, Request, Scored, Table, Uid};

impl Cluster {
    /// Keeps the explanations of at most so many decisions; 4096 unless told otherwise.
    pub fn keep_explanations(&mut self, most: usize) {
        self.decisions.keep(most);
    }

    /// Finds a host and reserves room on it, in one step.
    ///
    /// Asked again for the same UID, it answers with the same host while the placement or reservation lives, so that a
    /// retried admission is harmless; a reservation is then renewed. What was held is decided anew when the request now
    /// excludes that host; a mere reservation also when the host is gone or when the request's amounts or group differ.
    pub fn schedule(&mut self, request: &Request, now: Duration) -> Result<Placement, Refusal> {
        let until = now.saturating_add(self.settings.reservation_ttl);
        let mut placed = false;
        let mut left = None;
        if let Some(held) = self.allocations.get(&request.uid) {
            placed = held.until.is_none();
            if self.still_good(held, request) {
                let reused = self.reused(held);
                if !placed {
                    self.renew(&request.uid, until);
                }
                return Ok(reused);
            }
            if !placed {
                left = self.let_go(&request.uid);
            }
        }
        self.keep_fits(request);
        let decided = if placed {
            // A placement is a fact until the watch says otherwise: it is given up only for another host.
            self.without(&request.uid, |cluster| cluster.choose(request))
        } else {
            self.choose(request)
        };
        self.decisions.add(self.explained(request, now, &decided));
        let placement = decided.map(|choice| {
            left = left.or_else(|| self.let_go(&request.uid));
            self.reserve(request, &choice, until)
        });
        if let Some(left) = left {
            self.settle_pins(left);
        }
        placement
    }

    /// Holds what was chosen.
    fn reserve(&mut self, request: &Request, choice: &Choice, until: Duration) -> Placement {
        let placement = self.placement(request, choice);
        let mut amount = self.amount(&Claim::of(request, ""));
        if let Some(more) = amount.more.as_deref_mut() {
            more.pinning.clone_from(&placement.pinning);
        }
        let group = request.group.as_ref().map(|group| &group.uid);
        self.account(&request.uid, choice.slot, amount, group, Some(until));
        self.note(Event::InstanceMoved(request.uid.clone()));
        placement
    }

    /// What [`schedule`](Self::schedule) would answer, reserving nothing.
    pub fn dry_run(&self, request: &Request) -> Result<Placement, Refusal> {
        match self.allocations.get(&request.uid) {
            Some(held) if self.still_good(held, request) => Ok(self.reused(held)),
            Some(_) => {
                // Rare: only a request that was refused by the host that holds it. A copy is dear but simple.
                let mut copy = self.clone();
                copy.schedule(request, Duration::ZERO)
            }
            None => self.choose(request).map(|choice| self.placement(request, &choice)),
        }
    }

    /// What every host says to a request. Reserves nothing and leaves no trace; decides as if the request's UID held
    /// nothing yet.
    pub fn explain(&mut self, request: &Request) -> Table {
        self.without(&request.uid, |cluster| {
            let ask = cluster.ask(request);
            let (hosts, rejections) = verdicts(&cluster.settings.profile, &cluster.hosts, &ask);
            let chosen = cluster.choose(request).ok();
            Table {
                chosen: chosen.map(|choice| cluster.hosts.name(choice.slot).to_owned()),
                rejections,
                hosts,
            }
        })
    }

    /// The last decision for a UID, if it is still kept.
    pub fn explanation(&self, uid: &Uid) -> Option<&Explanation> {
        self.decisions.of(uid)
    }

    /// The decisions that are kept, newest first.
    pub fn explanations(&self) -> impl Iterator<Item = &Explanation> + '_ {
        self.decisions.iter()
    }

    /// Files the last decision for one UID under another, and under a name: a create is decided under its review's UID
    /// and perhaps without a name, and asked about under the object's.
    pub fn rename_explanation(&mut self, from: &Uid, to: &Uid, name: &str) {
        self.decisions.rename(from, to, name);
    }

    /// Notes who asked for the last decision for a UID.
    pub fn asked_by(&mut self, uid: &Uid, asker: Asker) {
        if let Some(kept) = self.decisions.of_mut(uid) {
            kept.asked_by = Some(asker);
        }
    }

    /// Notes that the Instance was seen bound to a host, if the last decision for it chose that.
    pub fn seen_bound(&mut self, uid: &Uid, host: &str, now: Duration) {
        if let Some(kept) = self.decisions.of_mut(uid)
            && kept.host.as_deref() == Some(host)
            && kept.bound_after.is_none()
        {
            kept.bound_after = Some(kept.age(now));
        }
    }

    fn ask<'a>(&'a self, request: &'a Request) -> Ask<'a> {
        let options = &self.settings.profile.options;
        Ask::new(request, options, &self.hosts, &self.groups, &self.allocations)
    }

    fn choose(&self, request: &Request) -> Result<Choice, Refusal> {
        decide(
            &self.settings.profile,
            self.settings.seed,
            &self.hosts,
            &self.ask(request),
        )
    }

    fn placement(&self, request: &Request, choice: &Choice) -> Placement {
        Placement {
            host: self.hosts.name(choice.slot).to_owned(),
            hosts: self.hosts.count(),
            survivors: choice.survivors,
            pinning: self.pinning_on(choice.slot, request),
            reused: false,
        }
    }

    /// What is kept of a decision.
    fn explained(&self, request: &Request, now: Duration, decided: &Result<Choice, Refusal>) -> Explanation {
        let mut explanation = Explanation {
            uid: request.uid.clone(),
            name: request.name.clone(),
            decided_at: now,
            host: None,
            hosts: self.hosts.count(),
            survivors: 0,
            rejections: Vec::new(),
            best: Vec::new(),
            asked_by: None,
            bound_after: None,
        };
        match decided {
            Err(refusal) => explanation.rejections.clone_from(&refusal.rejections),
            Ok(choice) => {
                explanation.host = Some(self.hosts.name(choice.slot).to_owned());
                explanation.survivors = choice.survivors;
                let rejection = |&(filter, count): &(&'static str, u32)| Rejection {
                    filter,
                    count,
                    details: Vec::new(),
                };
                explanation.rejections = choice.rejected.iter().map(rejection).collect();
                explanation.best = choice
                    .best
                    .iter()
                    .map(|best| Scored {
                        host: self.hosts.name(best.slot).to_owned(),
                        weight: best.weight,
                        parts: best.parts.clone(),
                    })
                    .collect();
            }
        }
        explanation
    }

    fn still_good(&self, held: &Allocation, request: &Request) -> bool {
        let allowed = request.allows_host(self.hosts.name(held.host));
        if held.until.is_none() {
            return allowed;
        }
        let group = held.group.and_then(|slot| self.groups.uid(slot));
        allowed
            && held.amount.resources == request.resources
            && self.holds_units(held, request)
            && held.amount.wanted().cloned() == Wanted::of(&Claim::of(request, ""))
            && group == request.group.as_ref().map(|group| &group.uid)
            && self.hosts.host(held.host).is_some()
    }

    /// Whether the units that are held are those that are asked for.
    fn holds_units(&self, held: &Allocation, request: &Request) -> bool {
        let asked = request.demands.iter().flat_map(|demands| &demands.resources);
        let asked = asked.filter(|&(_, &units)| units > 0);
        let mut count = 0;
        let classes = self.hosts.resource_classes();
        let held = held.amount.units();
        asked.into_iter().all(|(class, &units)| {
            count += 1;
            classes.find(class).is_some_and(|class| held.contains(&(class, units)))
        }) && count == held.len()
    }

    fn reused(&self, held: &Allocation) -> Placement {
        Placement {
            host: self.hosts.name(held.host).to_owned(),
            hosts: self.hosts.count(),
            survivors: 0,
            pinning: held.amount.pinning().cloned(),
            reused: true,
        }
    }
}
