//! Decisions: made, tried without effect, and explained.

use std::time::Duration;

use super::Cluster;
use crate::allocation::{Allocation, Claim};
use crate::decide::{Choice, decide, verdicts};
use crate::{Ask, Event, Explanation, Placement, Refusal, Rejection, Request, Scored, Table, Uid, Weighed};

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
                self.release(&request.uid);
            }
        }
        let decided = if placed {
            // A placement is a fact until the watch says otherwise: it is given up only for another host.
            self.without(&request.uid, |cluster| cluster.choose(request))
        } else {
            self.choose(request)
        };
        self.decisions.add(self.explained(request, now, &decided));
        let choice = decided?;
        let placement = self.placement(&choice);
        self.release(&request.uid);
        let amount = self.amount(&Claim::of(request, ""));
        let group = request.group.as_ref().map(|group| &group.uid);
        self.account(&request.uid, choice.slot, amount, group, Some(until));
        self.note(Event::InstanceMoved(request.uid.clone()));
        Ok(placement)
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
            None => self.choose(request).map(|choice| self.placement(&choice)),
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

    /// Files the last decision for one UID under another: a create is decided under its review's UID, and asked about
    /// under the object's.
    pub fn rename_explanation(&mut self, from: &Uid, to: &Uid) {
        self.decisions.rename(from, to);
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

    fn placement(&self, choice: &Choice) -> Placement {
        Placement {
            host: self.hosts.name(choice.slot).to_owned(),
            hosts: self.hosts.count(),
            survivors: choice.survivors,
            best: choice
                .best
                .iter()
                .map(|best| Weighed {
                    host: self.hosts.name(best.slot).to_owned(),
                    weight: best.weight,
                })
                .collect(),
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
            best: Vec::new(),
            reused: true,
        }
    }
}
