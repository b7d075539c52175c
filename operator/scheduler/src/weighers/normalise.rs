//! Measures onto a common scale.
//!
//! Nova: `normalize` and `BaseWeigher.weigh_objects` in `nova/weights.py`.

/// Maps measures to 0..1: `(x − min) / (max − min)` over the hosts of this decision, all 0 where min = max.
///
/// With a `floor`, that is the minimum, and measures below it count as it.
pub(crate) fn normalise(measures: &mut [f64], floor: Option<f64>) {
    if let Some(floor) = floor {
        for measure in &mut *measures {
            *measure = measure.max(floor);
        }
    }
    let (lowest, highest) = measures
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| {
            (low.min(x), high.max(x))
        });
    let lowest = floor.unwrap_or(lowest);
    let range = highest - lowest;
    for measure in &mut *measures {
        *measure = if range > 0.0 { (*measure - lowest) / range } else { 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(measures: &[f64], floor: Option<f64>) -> Vec<f64> {
        let mut measures = measures.to_vec();
        normalise(&mut measures, floor);
        measures
    }

    #[test]
    fn without_a_floor_the_lowest_is_zero_and_the_highest_one() {
        assert_eq!(normalised(&[2.0, 4.0, 10.0], None), [0.0, 0.25, 1.0]);
        assert_eq!(
            normalised(&[-3.0, -1.0, 0.0, -2.0], None),
            [0.0, 2.0 / 3.0, 1.0, 1.0 / 3.0]
        );
    }

    #[test]
    fn all_equal_is_zero() {
        assert_eq!(normalised(&[5.0, 5.0], None), [0.0, 0.0]);
        assert_eq!(normalised(&[0.0, 0.0], Some(0.0)), [0.0, 0.0]);
        assert_eq!(normalised(&[-1.0, -7.0], Some(0.0)), [0.0, 0.0]);
        assert_eq!(normalised(&[], None), [0.0; 0]);
    }

    #[test]
    fn with_a_floor_of_zero_the_scale_starts_there_and_not_at_the_lowest() {
        // Nova's RAMWeigher has minval 0: 512, 1024, 3072 and 8192 MB free are these parts of 8192.
        assert_eq!(
            normalised(&[512.0, 1024.0, 3072.0, 8192.0], Some(0.0)),
            [0.0625, 0.125, 0.375, 1.0]
        );
        assert_eq!(normalised(&[5.0, 5.0], Some(0.0)), [1.0, 1.0]);
        assert_eq!(normalised(&[-4.0, 4.0], Some(0.0)), [0.0, 1.0]);
    }
}
