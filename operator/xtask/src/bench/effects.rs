//! Where does the time of a start go? By the agent's own measurement of its steps.

use std::collections::BTreeMap;
use std::time::Duration;

use virga_lab::Node;

use super::Error;

/// The steps of a start, in their order. A network comes up while the domain is made.
const STEPS: [&str; 6] = [
    "CreateRootDisk",
    "WriteSeed",
    "Define",
    "EnsureNetwork",
    "RecordPower",
    "Start",
];

/// What the agent has measured since it began: of each step the seconds in all, and how often.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effects(BTreeMap<String, (f64, f64)>);

impl Effects {
    /// By a node's agent, now.
    pub fn now(node: &Node) -> Result<Self, Error> {
        let said = node.run(&[
            "curl",
            "--silent",
            "--fail",
            "--max-time",
            "5",
            "http://127.0.0.1:9190/metrics",
        ])?;
        Ok(Self::parse(&said))
    }

    /// Of the text of an agent's metrics.
    pub fn parse(text: &str) -> Self {
        let mut effects: BTreeMap<String, (f64, f64)> = BTreeMap::new();
        for line in text.lines() {
            let Some((name, rest)) = line
                .strip_prefix("virga_effect_seconds_")
                .and_then(|rest| rest.split_once("{effect=\""))
            else {
                continue;
            };
            let Some((effect, value)) = rest.split_once("\"} ") else {
                continue;
            };
            let value = value.trim().parse().unwrap_or(0.0);
            let (sum, count) = effects.entry(effect.to_owned()).or_default();
            match name {
                "sum" => *sum = value,
                "count" => *count = value,
                _ => {}
            }
        }
        Self(effects)
    }

    /// The mean of each step of a start since `before`, in the order of the steps.
    pub fn since(&self, before: &Self) -> Vec<(&'static str, Duration)> {
        let of = |effects: &Self, step| effects.0.get(step).copied().unwrap_or_default();
        let mean = |step| {
            let ((sum, count), (earlier, times)) = (of(self, step), of(before, step));
            let mean = Duration::try_from_secs_f64((sum - earlier) / (count - times)).ok()?;
            Some((step, mean))
        };
        STEPS.into_iter().filter_map(mean).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_of_what_was_added_and_of_the_steps_of_a_start_only() {
        let said = |sum: f64, count: u32| {
            let lines = ["Start", "Destroy"].map(|effect| {
                format!(
                    "virga_effect_seconds_sum{{effect=\"{effect}\"}} {sum}\n\
                     virga_effect_seconds_count{{effect=\"{effect}\"}} {count}\n\
                     virga_effect_seconds_bucket{{le=\"1.0\",effect=\"{effect}\"}} {count}\n"
                )
            });
            Effects::parse(&lines.concat())
        };
        let mean = said(4.0, 6).since(&said(3.0, 4));
        assert_eq!(mean, [("Start", Duration::from_millis(500))]);
        assert_eq!(said(3.0, 4).since(&said(3.0, 4)), [], "none was added");
    }
}
