//! What does the agent count, beside what every process does?

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::Registry,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByEffect {
    effect: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    effect: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, Copy)]
struct EffectBuckets;

impl MetricConstructor<Histogram> for EffectBuckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0])
    }
}

/// The agent's own metrics. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    effects: Family<ByOutcome, Counter>,
    seconds: Family<ByEffect, Histogram, EffectBuckets>,
    orphans: Counter,
    cache_bytes: Gauge,
    stuck_calls: Gauge,
}

impl Metrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            effects: Family::default(),
            seconds: Family::new_with_constructor(EffectBuckets),
            orphans: Counter::default(),
            cache_bytes: Gauge::default(),
            stuck_calls: Gauge::default(),
        };
        registry.register("effects", "Effects carried out, by outcome", metrics.effects.clone());
        registry.register("effect_seconds", "How long an effect took", metrics.seconds.clone());
        registry.register(
            "orphans_removed",
            "Domains, directories and volumes without an object that were removed",
            metrics.orphans.clone(),
        );
        registry.register(
            "image_cache_bytes",
            "What the image cache takes",
            metrics.cache_bytes.clone(),
        );
        registry.register(
            "hypervisor_calls_stuck",
            "Calls to libvirt that did not answer in time and are still under way",
            metrics.stuck_calls.clone(),
        );
        metrics
    }

    /// An effect was carried out, or failed.
    pub fn effect(&self, effect: &'static str, done: bool, took: Duration) {
        let outcome = if done { "done" } else { "failed" };
        self.effects.get_or_create(&ByOutcome { effect, outcome }).inc();
        self.seconds
            .get_or_create(&ByEffect { effect })
            .observe(took.as_secs_f64());
    }

    /// How often an effect was carried out.
    pub fn done(&self, effect: &'static str) -> u64 {
        let outcome = "done";
        self.effects.get_or_create(&ByOutcome { effect, outcome }).get()
    }

    /// An orphan was removed.
    pub fn orphan(&self) {
        self.orphans.inc();
    }

    /// What the node looks like now.
    pub fn node(&self, cache_bytes: u64, stuck_calls: usize) {
        self.cache_bytes.set(i64::try_from(cache_bytes).unwrap_or(i64::MAX));
        self.stuck_calls.set(i64::try_from(stuck_calls).unwrap_or(i64::MAX));
    }
}
