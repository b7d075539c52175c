//! What operators say of hosts beside the hosts themselves: aggregates and the profile.

use std::collections::BTreeSet;

use super::Cluster;
use crate::{Aggregate, Aspects, Event, Profile};

impl Cluster {
    /// The profile in use.
    pub fn profile(&self) -> &Profile {
        &self.settings.profile
    }

    /// Decides by another profile from now on. What is placed or reserved stays.
    pub fn set_profile(&mut self, profile: Profile) {
        self.settings.profile = profile;
        for slot in 0..self.hosts.slots() {
            self.hosts.reckon_fixed(slot, &self.settings.profile.options);
        }
        self.note(Event::Resync);
    }

    /// Adds an aggregate, or replaces what was known of the aggregate of that name. Its hosts need not be known yet.
    pub fn upsert_aggregate(&mut self, aggregate: Aggregate) {
        let hosts = self.aggregates.upsert(aggregate);
        self.rejoin(&hosts);
    }

    /// Forgets an aggregate.
    pub fn remove_aggregate(&mut self, name: &str) {
        let hosts = self.aggregates.remove(name);
        self.rejoin(&hosts);
    }

    /// The aggregates, by name.
    pub fn aggregates(&self) -> impl Iterator<Item = &Aggregate> + '_ {
        self.aggregates.iter()
    }

    /// The zone that a registered host is in: the one of its aggregates, of several that of the aggregate whose name sorts
    /// first, or its own.
    pub fn zone_of(&self, host: &str) -> Option<&str> {
        let slot = self.hosts.find(host)?;
        self.hosts.candidate(slot).zone().map(String::as_str)
    }

    /// Puts hosts into the cohort that their aggregates now make.
    fn rejoin(&mut self, hosts: &BTreeSet<String>) {
        for host in hosts {
            let Some(slot) = self.hosts.find(host).filter(|&slot| self.hosts.host(slot).is_some()) else {
                continue;
            };
            let moved = self.hosts.join(slot, self.aggregates.cohort(host));
            let zone = if moved { Aspects::ZONE } else { Aspects::NONE };
            self.note(Event::HostChanged(Aspects::AGGREGATES | zone));
        }
    }
}
