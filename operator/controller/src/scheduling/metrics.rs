//! What does scheduling count?

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// What scheduling counts.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    attempts: Family<ByResult, Counter>,
    seconds: Histogram,
    waiting: Gauge,
    reservations: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let buckets = [0.000_1, 0.000_5, 0.002, 0.01, 0.05, 0.2, 1.0];
        let metrics = Self {
            attempts: Family::default(),
            seconds: Histogram::new(buckets),
            waiting: Gauge::default(),
            reservations: Gauge::default(),
        };
        registry.register("schedule_attempts", "Decisions, by result", metrics.attempts.clone());
        registry.register("schedule_seconds", "How long a decision took", metrics.seconds.clone());
        registry.register(
            "schedule_queue_length",
            "Instances that wait for a host",
            metrics.waiting.clone(),
        );
        registry.register(
            "schedule_reservations",
            "Hosts promised and not yet bound",
            metrics.reservations.clone(),
        );
        metrics
    }

    /// A decision was made; `result` says which in one word.
    pub(super) fn decided(&self, result: &'static str, took: Duration) {
        self.attempts.get_or_create(&ByResult { result }).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// So many Instances wait, and so many hosts are promised.
    pub(super) fn now(&self, waiting: usize, reservations: usize) {
        let whole = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.waiting.set(whole(waiting));
        self.reservations.set(whole(reservations));
    }
}
