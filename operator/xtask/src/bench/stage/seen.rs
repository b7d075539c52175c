//! When did a watch show what, as somebody sees it who watches?

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt as _};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use virga_crds::Instance;

use super::Error;

/// All that a watch has shown of Instances, since it began.
pub struct Watched {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

type Shown = (Instant, Option<Instance>);

#[derive(Default)]
struct Shared {
    /// By name: what was shown and when, the latest last. Nothing of what is gone.
    shown: Mutex<HashMap<String, Vec<Shown>>>,
    news: Notify,
}

impl Watched {
    /// Begins to watch.
    pub async fn begin(api: Api<Instance>) -> Result<Self, Error> {
        let shared = Arc::new(Shared::default());
        let list = api.list(&ListParams::default()).await;
        let list = list.map_err(Error::api("listing Instances"))?;
        let mut version = list.metadata.resource_version.unwrap_or_default();
        for instance in list.items {
            shared.set(instance.name_any(), Some(instance));
        }
        let task = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                // The apiserver ends a watch after some minutes; what comes meanwhile is in the next one.
                while let Ok(events) = api.watch(&WatchParams::default().timeout(290), &version).await {
                    let mut events = events.boxed();
                    while let Ok(Some(event)) = events.try_next().await {
                        match event {
                            WatchEvent::Added(seen) | WatchEvent::Modified(seen) => {
                                version = seen.resource_version().unwrap_or_default();
                                shared.set(seen.name_any(), Some(seen));
                            }
                            WatchEvent::Deleted(seen) => {
                                version = seen.resource_version().unwrap_or_default();
                                shared.set(seen.name_any(), None);
                            }
                            WatchEvent::Bookmark(_) | WatchEvent::Error(_) => {}
                        }
                    }
                }
            }
        });
        Ok(Self { shared, task })
    }

    /// When an Instance was first shown so, at this time or later; `None` in `holds` is one that is gone.
    pub async fn until(
        &self,
        name: &str,
        since: Instant,
        limit: Duration,
        holds: impl Fn(Option<&Instance>) -> bool,
    ) -> Result<Instant, Error> {
        let seen = async {
            loop {
                // Asked before the look, so that nothing is missed in between.
                let news = self.shared.news.notified();
                {
                    let shown = self.shared.shown.lock().unwrap_or_else(PoisonError::into_inner);
                    let mut of_name = shown.get(name).into_iter().flatten();
                    if let Some((at, _)) = of_name.find(|(at, seen)| *at >= since && holds(seen.as_ref())) {
                        return *at;
                    }
                }
                news.await;
            }
        };
        let seen = tokio::time::timeout(limit, seen).await;
        seen.map_err(|_| {
            let shown = self.shared.shown.lock().unwrap_or_else(PoisonError::into_inner);
            let last = shown.get(name).and_then(|shown| shown.last());
            let instance = last.and_then(|(_, instance)| instance.as_ref());
            Error::Late {
                what: format!("Instance {name}"),
                limit_s: limit.as_secs(),
                status: format!("{:?}", instance.map(|instance| &instance.status)),
            }
        })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn set(&self, name: String, instance: Option<Instance>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.entry(name).or_default().push((Instant::now(), instance));
        drop(shown);
        self.news.notify_waiters();
    }
}
