//! Who has a volume? At most one Instance, whatever runs at the same time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use uuid::Uuid;
use virga_core::volume::{Claimant, holder};

/// Volumes that were promised to an Instance, or are being deleted.
///
/// This is memory, but nothing is lost with it: a domain that has a volume comes before all that wait for it, so an
/// agent that starts anew makes the same claims again. What it prevents are two reconciles that look at the same moment.
#[derive(Clone, Default)]
pub struct Claims {
    claims: Arc<Mutex<HashMap<Uuid, Held>>>,
}

enum Held {
    By(Claimant),
    Deleting,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The volume belongs to who asked.
    Mine,
    /// It belongs to the Instance of this name.
    Of(String),
    /// It is being deleted.
    Deleting,
}

impl Claims {
    /// Claims a volume. `others` are the other Instances that name it and exist.
    pub fn claim(&self, volume: Uuid, me: Claimant, others: Vec<Claimant>) -> Claim {
        let mut claims = self.lock();
        match claims.get(&volume) {
            Some(Held::Deleting) => return Claim::Deleting,
            Some(Held::By(held)) if held.uid == me.uid => return Claim::Mine,
            // It may have been made by an Instance that is gone by now.
            Some(Held::By(held)) if others.iter().any(|other| other.uid == held.uid) => {
                return Claim::Of(held.name.clone());
            }
            _ => {}
        }
        let mine = me.uid.clone();
        match holder(others.into_iter().chain([me])) {
            Some(winner) if winner.uid == mine => {
                claims.insert(volume, Held::By(winner));
                Claim::Mine
            }
            Some(winner) => Claim::Of(winner.name),
            None => Claim::Mine,
        }
    }

    /// Who has claimed it, of these.
    pub fn claimed_by(&self, volume: Uuid, existing: &[Claimant]) -> Option<Claimant> {
        match self.lock().get(&volume) {
            Some(Held::By(held)) => existing.iter().find(|claimant| claimant.uid == held.uid).cloned(),
            _ => None,
        }
    }

    /// From now on nobody can claim it, unless one of these has: then that one is returned.
    pub fn delete(&self, volume: Uuid, existing: &[Claimant]) -> Result<(), Claimant> {
        let mut claims = self.lock();
        if let Some(Held::By(held)) = claims.get(&volume)
            && let Some(claimant) = existing.iter().find(|claimant| claimant.uid == held.uid)
        {
            return Err(claimant.clone());
        }
        claims.insert(volume, Held::Deleting);
        Ok(())
    }

    /// The volume is gone.
    pub fn forget(&self, volume: Uuid) {
        self.lock().remove(&volume);
    }

    /// An Instance lets go of all that it has.
    pub fn release(&self, instance: &str) {
        self.lock()
            .retain(|_, held| !matches!(held, Held::By(claimant) if claimant.uid == instance));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Held>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const VOLUME: Uuid = Uuid::from_u128(1);

    fn claimant(uid: &str, second: i64) -> Claimant {
        Claimant {
            without_it: true,
            created: Timestamp::from_second(second).ok(),
            uid: uid.into(),
            name: uid.into(),
        }
    }

    #[test]
    fn a_promise_holds_against_an_older_instance_that_comes_later() {
        let claims = Claims::default();
        let (young, old) = (claimant("young", 20), claimant("old", 10));
        assert_eq!(claims.claim(VOLUME, young.clone(), vec![]), Claim::Mine);
        assert_eq!(
            claims.claim(VOLUME, old.clone(), vec![young.clone()]),
            Claim::Of("young".into())
        );
        // Until its Instance is gone.
        assert_eq!(claims.claim(VOLUME, old, vec![]), Claim::Mine);
        assert_eq!(
            claims.claim(VOLUME, young, vec![claimant("old", 10)]),
            Claim::Of("old".into())
        );
    }

    #[test]
    fn a_volume_that_is_claimed_is_not_deleted_and_one_that_is_deleted_is_not_claimed() {
        let claims = Claims::default();
        let me = claimant("me", 1);
        assert_eq!(claims.claim(VOLUME, me.clone(), vec![]), Claim::Mine);
        assert_eq!(claims.delete(VOLUME, std::slice::from_ref(&me)), Err(me.clone()));
        claims.release("me");
        assert_eq!(claims.delete(VOLUME, std::slice::from_ref(&me)), Ok(()));
        assert_eq!(claims.claim(VOLUME, me, vec![]), Claim::Deleting);
    }
}
