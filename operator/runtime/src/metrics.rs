//! What does it count? Registries are values, no globals. No label holds an object's name, but those of
//! the figures of the guests that run on an agent's host.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::Registry,
};

use crate::class::Class;

/// The `Content-Type` of [`encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// An empty registry whose metrics all begin with `virga_`.
pub fn registry() -> Registry {
    Registry::with_prefix("virga")
}

/// The registry's metrics in the OpenMetrics text format.
pub fn encode(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    text::encode(&mut text, registry)?;
    Ok(text)
}

/// How a reconcile ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It wrote something, or changed the host.
    Changed,
    /// All was as it should be.
    Unchanged,
    /// Something that the object needs is not there yet.
    Waiting,
    /// It failed.
    Error,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Waiting => "waiting",
            Self::Error => "error",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByController {
    controller: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    controller: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByClass {
    controller: &'static str,
    class: &'static str,
}

#[derive(Debug, Clone, Copy)]
struct ReconcileBuckets;

impl MetricConstructor<Histogram> for ReconcileBuckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 20.0, 60.0, 300.0])
    }
}

/// What the loops of all kinds count: one per process, shared by them.
#[derive(Debug, Clone)]
pub struct ReconcileMetrics {
    total: Family<ByOutcome, Counter>,
    seconds: Family<ByController, Histogram, ReconcileBuckets>,
    errors: Family<ByClass, Counter>,
    in_backoff: Family<ByController, Gauge>,
}

impl ReconcileMetrics {
    /// Registers `reconcile_total`, `reconcile_seconds`, `reconcile_errors_total` and `objects_in_backoff`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            total: Family::default(),
            seconds: Family::new_with_constructor(ReconcileBuckets),
            errors: Family::default(),
            in_backoff: Family::default(),
        };
        registry.register("reconcile", "Reconciles that ended, by outcome", metrics.total.clone());
        registry.register(
            "reconcile_seconds",
            "How long a reconcile took",
            metrics.seconds.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Reconciles that failed, by class",
            metrics.errors.clone(),
        );
        registry.register(
            "objects_in_backoff",
            "Objects that wait after a failure",
            metrics.in_backoff.clone(),
        );
        metrics
    }

    pub(crate) fn ended(&self, controller: &'static str, outcome: Outcome, took: Duration) {
        self.total
            .get_or_create(&ByOutcome {
                controller,
                outcome: outcome.as_str(),
            })
            .inc();
        self.seconds
            .get_or_create(&ByController { controller })
            .observe(took.as_secs_f64());
    }

    pub(crate) fn failed(&self, controller: &'static str, class: Class) {
        self.errors
            .get_or_create(&ByClass {
                controller,
                class: class.as_str(),
            })
            .inc();
    }

    pub(crate) fn in_backoff(&self, controller: &'static str, objects: usize) {
        let objects = i64::try_from(objects).unwrap_or(i64::MAX);
        self.in_backoff.get_or_create(&ByController { controller }).set(objects);
    }

    /// How often this controller's reconciles ended so.
    pub fn count(&self, controller: &'static str, outcome: Outcome) -> u64 {
        self.total
            .get_or_create(&ByOutcome {
                controller,
                outcome: outcome.as_str(),
            })
            .get()
    }

    /// How often this controller's reconciles failed with this class.
    pub fn errors(&self, controller: &'static str, class: Class) -> u64 {
        self.errors
            .get_or_create(&ByClass {
                controller,
                class: class.as_str(),
            })
            .get()
    }
}

/// A finished registry, shared by the server that shows it.
pub type SharedRegistry = Arc<Registry>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_carry_the_documented_names_and_labels() {
        let mut registry = registry();
        let metrics = ReconcileMetrics::register(&mut registry);
        metrics.ended("instance", Outcome::Changed, Duration::from_millis(30));
        metrics.failed("instance", Class::Waiting);
        metrics.in_backoff("instance", 2);

        let text = encode(&registry).unwrap();
        for line in [
            r#"virga_reconcile_total{controller="instance",outcome="changed"} 1"#,
            r#"virga_reconcile_seconds_count{controller="instance"} 1"#,
            r#"virga_reconcile_errors_total{controller="instance",class="waiting"} 1"#,
            r#"virga_objects_in_backoff{controller="instance"} 2"#,
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }
}
