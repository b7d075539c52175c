use virga_crds::{Instance, InstanceScheduling, labels};

/// More than any decision takes, and less than what would make an object's status heavy.
const MOST_BYTES: usize = 8192;
/// As many as `status.scheduling.rejections` holds.
const MOST_REJECTIONS: usize = 64;
/// As many as `status.scheduling.weights` holds.
const MOST_WEIGHTS: usize = 3;

/// The decision that came with `spec.nodeName`, from the annotation that carries it.
///
/// Only the controller writes it, which the webhook `/guard` sees to. What the schema of `status.scheduling` would not
/// take is none all the same: an agent must be able to write its status whatever the annotation says.
pub fn decision(instance: &Instance) -> Option<InstanceScheduling> {
    let text = instance.metadata.annotations.as_ref()?.get(labels::SCHEDULING)?;
    if text.len() > MOST_BYTES {
        return None;
    }
    let found: InstanceScheduling = serde_json::from_str(text).ok()?;
    fits(&found).then_some(found)
}

/// Whether the schema of `status.scheduling` takes it.
fn fits(found: &InstanceScheduling) -> bool {
    let InstanceScheduling {
        decided_at: _,
        decided_by: _,
        hosts,
        survivors,
        rejections,
        weights,
        rank,
        reservation_age_milliseconds,
    } = found;
    let is_name = |name: &str| (1..=63).contains(&name.len());
    let once = |at: usize, name: &str| rejections[..at].iter().all(|before| before.filter != name);
    *hosts >= 0
        && *survivors >= 0
        && rejections.len() <= MOST_REJECTIONS
        && rejections
            .iter()
            .enumerate()
            .all(|(at, r)| r.hosts >= 0 && is_name(&r.filter) && once(at, &r.filter))
        && weights.len() <= MOST_WEIGHTS
        && weights.iter().all(|weight| is_decimal(weight))
        && rank.is_none_or(|rank| (1..=3).contains(&rank))
        && reservation_age_milliseconds.is_none_or(|age| age >= 0)
}

fn is_decimal(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    text.len() <= 32 && digits(whole) && digits(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(text: &str) -> Option<InstanceScheduling> {
        let mut instance = Instance::new("web", virga_crds::InstanceSpec::default());
        instance.metadata.annotations = Some([(labels::SCHEDULING.to_owned(), text.to_owned())].into());
        decision(&instance)
    }

    fn with(field: &str, value: serde_json::Value) -> String {
        let mut whole = serde_json::json!({
            "decidedAt": "2026-11-22T15:00:00Z", "decidedBy": "Queue", "hosts": 3, "survivors": 2,
            "rejections": [{"filter": "RamFilter", "hosts": 1}], "weights": ["3", "-0.25"], "rank": 1,
        });
        whole[field] = value;
        whole.to_string()
    }

    #[test]
    fn a_decision_is_read_back_as_it_was_written() {
        let found = carried(&with("hosts", 3.into())).unwrap();
        assert_eq!((found.hosts, found.weights.len(), found.rank), (3, 2, Some(1)));
        assert_eq!(carried(&serde_json::to_string(&found).unwrap()), Some(found));
    }

    #[test]
    fn what_the_status_could_not_hold_is_no_decision() {
        let many: Vec<_> = (0..65)
            .map(|n| serde_json::json!({"filter": format!("F{n}"), "hosts": 1}))
            .collect();
        for (field, value) in [
            ("hosts", (-1).into()),
            ("survivors", 1.5.into()),
            ("decidedBy", "Chance".into()),
            ("decidedAt", "yesterday".into()),
            ("rejections", many.into()),
            (
                "rejections",
                serde_json::json!([{"filter": "A", "hosts": 1}, {"filter": "A", "hosts": 2}]),
            ),
            ("rejections", serde_json::json!([{"filter": "", "hosts": 1}])),
            ("weights", serde_json::json!(["1", "1", "1", "1"])),
            ("weights", serde_json::json!(["NaN"])),
            ("weights", serde_json::json!(["1."])),
            ("rank", 4.into()),
            ("reservationAgeMilliseconds", (-1).into()),
        ] {
            let text = with(field, value);
            assert_eq!(carried(&text), None, "{text}");
        }
        assert_eq!(carried(""), None);
        assert_eq!(carried(&" ".repeat(MOST_BYTES + 1)), None);
    }
}
