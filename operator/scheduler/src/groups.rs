//! Which members of each server group are on which hosts.

use std::collections::HashMap;

use crate::Uid;

/// The groups that have members somewhere, by small numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Groups {
    slots: Vec<Option<Members>>,
    by_uid: HashMap<Uid, u32>,
    free: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Members {
    uid: Uid,
    /// Host slot and number of members there, sorted by slot, never zero.
    hosts: Vec<(u32, u32)>,
}

impl Groups {
    /// The hosts that hold members of a group, sorted by host slot, with how many.
    pub(crate) fn hosts_of(&self, group: &Uid) -> &[(u32, u32)] {
        self.by_uid
            .get(group)
            .and_then(|&slot| self.slots.get(slot as usize)?.as_ref())
            .map_or(&[], |members| members.hosts.as_slice())
    }

    /// Counts a member on a host and returns the group's number, which holds until the group has no member.
    pub(crate) fn join(&mut self, group: &Uid, host: u32) -> u32 {
        let slot = match self.by_uid.get(group) {
            Some(&slot) => slot,
            None => self.open(group),
        };
        if let Some(Some(members)) = self.slots.get_mut(slot as usize) {
            match members.hosts.binary_search_by_key(&host, |&(at, _)| at) {
                Ok(at) => members.hosts[at].1 += 1,
                Err(at) => members.hosts.insert(at, (host, 1)),
            }
        }
        slot
    }

    /// Takes a member off a host and returns the group's UID.
    pub(crate) fn leave(&mut self, slot: u32, host: u32) -> Option<Uid> {
        let entry = self.slots.get_mut(slot as usize)?;
        let members = entry.as_mut()?;
        let uid = members.uid.clone();
        if let Ok(at) = members.hosts.binary_search_by_key(&host, |&(at, _)| at) {
            members.hosts[at].1 -= 1;
            if members.hosts[at].1 == 0 {
                members.hosts.remove(at);
            }
        }
        if members.hosts.is_empty() {
            *entry = None;
            self.by_uid.remove(&uid);
            self.free.push(slot);
        }
        Some(uid)
    }

    /// The UID behind a number.
    pub(crate) fn uid(&self, slot: u32) -> Option<&Uid> {
        Some(&self.slots.get(slot as usize)?.as_ref()?.uid)
    }

    fn open(&mut self, group: &Uid) -> u32 {
        let members = Some(Members {
            uid: group.clone(),
            hosts: Vec::new(),
        });
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = members;
            slot
        } else {
            self.slots.push(members);
            // Each slot takes tens of bytes: memory ends long before the numbers do.
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        };
        self.by_uid.insert(group.clone(), slot);
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_counted_per_host_and_a_group_without_members_is_forgotten() {
        let (web, db) = (Uid::from("web"), Uid::from("db"));
        let mut groups = Groups::default();
        let slot = groups.join(&web, 7);
        assert_eq!(groups.join(&web, 3), slot);
        assert_eq!(groups.join(&web, 7), slot);
        assert_eq!(groups.hosts_of(&web), [(3, 1), (7, 2)]);
        assert_eq!(groups.hosts_of(&db), []);
        assert_eq!(groups.uid(slot), Some(&web));

        for host in [7, 3, 7] {
            assert_eq!(groups.leave(slot, host), Some(web.clone()));
        }
        assert_eq!(groups.hosts_of(&web), []);
        assert_eq!(groups.join(&db, 1), slot, "the number is used again");
    }
}
