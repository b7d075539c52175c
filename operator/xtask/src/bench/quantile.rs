//! What is typical of a list of times, and what is bad?

use std::time::Duration;

/// The smallest time that `percent` of all are no longer than (the nearest-rank method). Nothing of nothing.
pub fn quantile(times: &[Duration], percent: usize) -> Option<Duration> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_rank_is_a_time_that_was_measured() {
        let times: Vec<_> = (1..=20).rev().map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 50), Some(Duration::from_millis(10)));
        assert_eq!(quantile(&times, 95), Some(Duration::from_millis(19)));
        assert_eq!(quantile(&times[..1], 95), Some(Duration::from_millis(20)));
        assert_eq!(quantile(&[], 50), None);
    }
}
