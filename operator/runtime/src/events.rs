//! How does a user hear of it? By Kubernetes events, one per change, that never fail or delay the one who reports.

use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::class;

/// How many events may wait to be sent. More are dropped, and counted.
const BACKLOG: usize = 256;
/// The longest note that the API server takes, in bytes.
const NOTE_BYTES: usize = 1024;
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Reports events. One per process: clones share the queue, and the sender merges repeats into series.
#[derive(Debug, Clone)]
pub struct Events {
    queue: mpsc::Sender<Report>,
    dropped: Counter,
}

/// Sends what [`Events`] reports.
pub struct Sender {
    recorder: Recorder,
    queue: mpsc::Receiver<Report>,
    dropped: Counter,
}

#[derive(Debug)]
struct Report {
    kind: EventType,
    reason: &'static str,
    action: &'static str,
    note: String,
    regarding: ObjectReference,
}

/// Makes the process's events. `controller` is the process's name, `instance` its pod or node.
pub fn events(client: Client, controller: &str, instance: &str, registry: &mut Registry) -> (Events, Sender) {
    let reporter = Reporter {
        controller: controller.to_owned(),
        instance: Some(instance.to_owned()),
    };
    let dropped = Counter::default();
    registry.register("events_dropped", "Events that were not sent", dropped.clone());
    let (tx, rx) = mpsc::channel(BACKLOG);
    let recorder = Recorder::new(client, reporter);
    (
        Events {
            queue: tx,
            dropped: dropped.clone(),
        },
        Sender {
            recorder,
            queue: rx,
            dropped,
        },
    )
}

impl Events {
    /// Something went as it should. `reason` is from the kind's list, in `PascalCase`; `action` says what was being
    /// done, such as `Scheduling`; the note is for a person and is cut at 1024 bytes.
    pub fn normal<K>(&self, about: &K, reason: &'static str, action: &'static str, note: impl Into<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        self.report(EventType::Normal, about.object_ref(&()), reason, action, note.into());
    }

    /// Something did not go as it should, and its user can do something about it.
    pub fn warning<K>(&self, about: &K, reason: &'static str, action: &'static str, note: impl Into<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        self.report(EventType::Warning, about.object_ref(&()), reason, action, note.into());
    }

    /// How many events were dropped since the process began.
    pub fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    fn report(
        &self,
        kind: EventType,
        regarding: ObjectReference,
        reason: &'static str,
        action: &'static str,
        mut note: String,
    ) {
        note.truncate(note.floor_char_boundary(NOTE_BYTES));
        if self
            .queue
            .try_send(Report {
                kind,
                reason,
                action,
                note,
                regarding,
            })
            .is_err()
        {
            self.dropped.inc();
        }
    }
}

impl Sender {
    /// Sends until `stop` is cancelled, and then what waits already. A failure is logged and counted, not retried: an
    /// event that matters comes again.
    pub async fn run(mut self, stop: CancellationToken) {
        while let Some(report) = tokio::select! {
            biased;
            report = self.queue.recv() => report,
            () = stop.cancelled() => None,
        } {
            self.send(report).await;
        }
        while let Some(Some(report)) = self.queue.recv().now_or_never() {
            self.send(report).await;
        }
    }

    async fn send(&self, report: Report) {
        let Report {
            kind: type_,
            reason,
            action,
            note,
            regarding,
        } = report;
        let event = Event {
            type_,
            reason: reason.into(),
            note: Some(note),
            action: action.into(),
            secondary: None,
        };
        let error = match timeout(CALL_TIMEOUT, self.recorder.publish(&event, &regarding)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => class::chain(&error),
            Err(_) => "no answer".to_owned(),
        };
        self.dropped.inc();
        tracing::warn!(reason, name = regarding.name, error, "sending an event");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics;
    use k8s_openapi::api::core::v1::ConfigMap;
    use k8s_openapi::{api::events::v1::Event as Stored, apimachinery::pkg::apis::meta::v1::ObjectMeta};
    use virga_testkit::{FakeApi, Fault};

    fn object() -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                name: Some("web".into()),
                namespace: Some("shop".into()),
                uid: Some("u-1".into()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    fn start(api: &FakeApi) -> (Events, tokio::task::JoinHandle<()>, CancellationToken) {
        let (events, sender) = events(api.client(), "virga-test", "n1", &mut metrics::registry());
        let stop = CancellationToken::new();
        (events, tokio::spawn(sender.run(stop.clone())), stop)
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_names_its_object_and_repeats_become_a_series() {
        let api = FakeApi::new();
        let (events, sent, stop) = start(&api);
        events.normal(&object(), "Scheduled", "Scheduling", "bound to n1");
        events.normal(&object(), "Scheduled", "Scheduling", "bound to n1");
        stop.cancel();
        sent.await.unwrap();

        let stored = api.list::<Stored>();
        let [event] = stored.as_slice() else {
            panic!("one event, not {}", stored.len())
        };
        assert_eq!(event.regarding.as_ref().unwrap().uid.as_deref(), Some("u-1"));
        assert_eq!(event.reason.as_deref(), Some("Scheduled"));
        assert_eq!(event.series.as_ref().unwrap().count, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_note_is_cut_between_characters() {
        let api = FakeApi::new();
        let (events, sent, stop) = start(&api);
        events.warning(&object(), "ImageInvalid", "Importing", format!("{}ü", "x".repeat(1023)));
        stop.cancel();
        sent.await.unwrap();
        assert_eq!(api.list::<Stored>()[0].note.as_ref().unwrap().len(), 1023);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_api_server_delays_nobody_and_drops_what_does_not_fit() {
        let api = FakeApi::new();
        api.inject(Fault::hang().resource("events"));
        let (events, ..) = start(&api);
        for _ in 0..300 {
            events.normal(&object(), "Scheduled", "Scheduling", "bound");
        }
        assert!(events.dropped() >= 300 - 256 - 1, "{}", events.dropped());
    }
}
