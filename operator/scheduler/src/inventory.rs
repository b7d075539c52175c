//! How much of a resource class a host has: Placement's inventory.

use serde::{Deserialize, Serialize};

use crate::Ratio;

/// The inventory of one resource class on one host, such as `CUSTOM_LICENCE` or `VGPU`.
///
/// Nova: Placement's inventory. A request must be a multiple of `step_size` between `min_unit` and `max_unit`, and
/// `(total − reserved) × ratio − used` must be left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Inventory {
    /// Units that there are.
    pub total: u64,
    /// Units kept back.
    #[serde(default)]
    pub reserved: u64,
    /// The least that one Instance may ask for.
    #[serde(default = "one")]
    pub min_unit: u64,
    /// The most that one Instance may ask for; never more than `total`, whatever is written here.
    #[serde(default = "unbounded")]
    pub max_unit: u64,
    /// What one Instance asks for is a multiple of this. 0 counts as 1.
    #[serde(default = "one")]
    pub step_size: u64,
    /// How many times over the units are given out.
    #[serde(default = "ratio_one")]
    pub ratio: Ratio,
}

fn one() -> u64 {
    1
}

fn unbounded() -> u64 {
    u64::MAX
}

fn ratio_one() -> Ratio {
    Ratio::ONE
}

impl Inventory {
    /// So many units, each given out once, in any amount.
    pub fn new(total: u64) -> Self {
        Self {
            total,
            reserved: 0,
            min_unit: 1,
            max_unit: u64::MAX,
            step_size: 1,
            ratio: Ratio::ONE,
        }
    }

    /// What may be given out in all: `(total − reserved) × ratio`.
    pub fn limit(&self) -> u64 {
        self.ratio.of(self.total.saturating_sub(self.reserved))
    }

    /// Whether one Instance may ask for so much at all, whatever is left.
    pub fn allows(&self, asked: u64) -> bool {
        (self.min_unit..=self.max_unit.min(self.total)).contains(&asked) && asked.is_multiple_of(self.step_size.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_asked_for_is_a_multiple_of_the_step_between_the_least_and_the_most() {
        let inventory = Inventory {
            min_unit: 4,
            max_unit: 12,
            step_size: 4,
            ..Inventory::new(100)
        };
        for asked in [4, 8, 12] {
            assert!(inventory.allows(asked), "{asked}");
        }
        for asked in [0, 2, 6, 16] {
            assert!(!inventory.allows(asked), "{asked}");
        }
    }

    #[test]
    fn one_instance_never_has_more_than_there_is_whatever_the_ratio() {
        let inventory = Inventory {
            reserved: 2,
            ratio: Ratio::FOUR,
            ..Inventory::new(10)
        };
        assert_eq!(inventory.limit(), 32);
        assert!(inventory.allows(10));
        assert!(!inventory.allows(11));
    }

    #[test]
    fn a_step_of_zero_is_taken_for_one_and_reserving_all_leaves_nothing() {
        let inventory = Inventory {
            step_size: 0,
            reserved: 20,
            ..Inventory::new(10)
        };
        assert!(inventory.allows(7));
        assert_eq!(inventory.limit(), 0);
    }
}
