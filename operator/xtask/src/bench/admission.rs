//! How long does a create take through the real apiserver, and how much of that is the scheduler's?

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::Api;
use kube::api::PostParams;
use virga_crds::Instance;

use crate::scale::{Cloud, Controller, Error, fill, network};

const SIZES: [u32; 2] = [1_000, 10_000];
/// Connections, and how many Instances are created over them.
const CLIENTS: [(usize, u32); 2] = [(1, 300), (32, 1_600)];
/// Until the loops have looked at everything once.
const SETTLE: Duration = Duration::from_secs(5);
/// On creates that nothing holds, so that they can be deleted.
const LABEL: &str = "virga-bench";

/// Whom the API server asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// Nobody; no controller runs.
    Nobody,
    /// Guard and validation; the scheduler's queue places afterwards.
    NotToSchedule,
    /// All webhooks of the chart.
    All,
}

/// Creates of one kind.
#[derive(Debug, Clone)]
pub struct Creates {
    /// Of how many hosts.
    pub hosts: u32,
    /// Over how many connections.
    pub clients: usize,
    /// Whom the API server asks.
    pub asks: Asks,
    /// From request to answer.
    pub times: Vec<Duration>,
    /// How many the leader placed in the request.
    pub placed: usize,
    /// The mean time of a decision, by the controller's own clock.
    pub decision: Option<Duration>,
}

impl Creates {
    /// Which part of the mean request the decision is.
    pub fn share(&self) -> Option<f64> {
        let all: Duration = self.times.iter().sum();
        let count = u32::try_from(self.times.len()).ok().filter(|count| *count > 0)?;
        Some(self.decision?.as_secs_f64() / (all / count).as_secs_f64())
    }
}

/// Measures in a control plane of its own.
pub async fn measure() -> Result<Vec<Creates>, Error> {
    let cloud = Cloud::up().await?;
    fill::stock(cloud.client()).await?;
    let mut made = Vec::new();
    let mut there = 0;
    for hosts in SIZES {
        println!("{hosts} Hypervisors");
        cloud.remove_webhooks().await?;
        fill::hosts(&cloud.clients, there..hosts).await?;
        there = hosts;
        for (clients, count) in CLIENTS {
            made.push(creates(&cloud, None, Asks::Nobody, hosts, clients, count).await?);
        }
        cloud.delete_instances(LABEL).await?;
        cloud.install_webhooks()?;
        for asks in [Asks::All, Asks::NotToSchedule] {
            for (clients, count) in CLIENTS {
                // No agent renews its heartbeat while it is measured: one that starts believes all of them for 40 s.
                let address = network::REPLICAS[0];
                let controller = Controller::start(&cloud.kubeconfig, address)?;
                controller.until_leading().await?;
                cloud.direct(&[address], Some(address)).await?;
                match asks {
                    Asks::NotToSchedule => cloud.remove_scheduling().await?,
                    _ => cloud.until_placed_at_create(true).await?,
                }
                tokio::time::sleep(SETTLE).await;
                made.push(creates(&cloud, Some(&controller), asks, hosts, clients, count).await?);
                controller.stop();
            }
        }
    }
    Ok(made)
}

async fn creates(
    cloud: &Cloud,
    controller: Option<&Controller>,
    asks: Asks,
    hosts: u32,
    clients: usize,
    count: u32,
) -> Result<Creates, Error> {
    let before = controller.map(Controller::decided);
    let answered: Vec<(Duration, bool)> = stream::iter(0..count)
        .map(|n| async move {
            let api = Api::<Instance>::namespaced(cloud.clients[n as usize % clients].clone(), fill::NAMESPACE);
            let name = format!("{}-{hosts}-{clients}-{n:05}", format!("{asks:?}").to_lowercase());
            let mut instance = fill::instance(&name, fill::SMALL);
            instance.metadata.labels = Some([(LABEL.to_owned(), String::new())].into());
            let began = Instant::now();
            let made = api.create(&PostParams::default(), &instance).await;
            let took = began.elapsed();
            let made = made.map_err(Error::api(format!("creating Instance {name}")))?;
            Ok::<_, Error>((took, made.spec.node_name.is_some()))
        })
        .buffer_unordered(clients)
        .try_collect()
        .await?;
    let decided = controller.map(Controller::decided).zip(before);
    let decided = decided
        .map(|(after, before)| after.since(before))
        // What the queue decides is not part of a request.
        .filter(|decided| asks == Asks::All && decided.count > 0.0);
    let (times, placed): (Vec<Duration>, Vec<bool>) = answered.into_iter().unzip();
    let placed = placed.into_iter().filter(|placed| *placed).count();
    println!("{hosts} hosts, {clients} clients, {asks:?}: {count} creates, {placed} placed");
    Ok(Creates {
        hosts,
        clients,
        asks,
        times,
        placed,
        decision: decided.map(|decided| Duration::from_secs_f64(decided.seconds / decided.count)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_of_the_mean_request() {
        let creates = Creates {
            hosts: 1,
            clients: 1,
            asks: Asks::All,
            times: vec![Duration::from_millis(10), Duration::from_millis(30)],
            placed: 2,
            decision: Some(Duration::from_millis(1)),
        };
        assert!((creates.share().unwrap() - 0.05).abs() < 1e-9);
        assert_eq!(
            Creates {
                times: Vec::new(),
                ..creates
            }
            .share(),
            None
        );
    }
}
