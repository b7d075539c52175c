use jiff::Timestamp;

/// An Instance that names a volume, or has it still.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claimant {
    /// Its domain doesn't have it yet: false sorts first.
    pub without_it: bool,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Its uid.
    pub uid: String,
    /// Its name.
    pub name: String,
}

/// Which of the Instances that name a volume has it: the one whose domain has it already, or else the oldest, or else
/// the one with the lower uid. All agents and all passes come to the same.
pub fn holder(claimants: impl IntoIterator<Item = Claimant>) -> Option<Claimant> {
    claimants.into_iter().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimant(without_it: bool, second: i64, uid: &str) -> Claimant {
        Claimant {
            without_it,
            created: Timestamp::from_second(second).ok(),
            uid: uid.into(),
            name: format!("of-{uid}"),
        }
    }

    #[test]
    fn the_oldest_instance_has_the_volume_and_a_tie_is_broken_by_uid() {
        let winner = holder([
            claimant(true, 20, "a"),
            claimant(true, 10, "c"),
            claimant(true, 10, "b"),
        ]);
        assert_eq!(winner.map(|w| w.uid).as_deref(), Some("b"));
    }

    #[test]
    fn a_volume_is_never_taken_from_a_domain_that_has_it() {
        let winner = holder([claimant(true, 1, "older"), claimant(false, 2, "younger")]);
        assert_eq!(winner.map(|w| w.uid).as_deref(), Some("younger"));
    }
}
