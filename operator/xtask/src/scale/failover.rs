//! The leader is killed in the middle of a storm of creates: is anything lost, bound twice, or put where there is no room?
//!
//! The storm's Instances fit once on each of a few more hosts than there are Instances, so a leader that did not know of
//! one of its predecessor's bindings would soon put two onto one host.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt as _};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use virga_crds::Instance;

use super::cloud::Cloud;
use super::controller::Controller;
use super::{Error, fill, network};

/// Over so many connections.
pub const CONNECTIONS: usize = 32;
/// Until endpoints of a process that has ended are gone, as by a kubelet.
const NOTICED: Duration = Duration::from_secs(1);
/// A create that was refused is tried again after this.
const AGAIN: Duration = Duration::from_millis(200);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// For the new leader, and for all Instances.
pub const LIMIT: Duration = Duration::from_mins(4);
/// In which time every host's heartbeat is written once, if the API server is fast enough; a host is lost after 40 s.
pub const BEAT: Duration = Duration::from_secs(25);
/// So many heartbeats at each tick: timers are no finer than a millisecond.
const AT_A_TIME: u32 = 50;
const NAME: &str = "storm-";

/// What was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Failover {
    /// How many hosts.
    pub hosts: u32,
    /// How many Instances there were before.
    pub instances: u32,
    /// How many the storm created; all were accepted in the end.
    pub storm: u32,
    /// How many were accepted when the leader was killed.
    pub before: u32,
    /// How often the API server refused a create, because it could not reach a replica.
    pub refused: u32,
    /// From the kill until the other replica led.
    pub led: Duration,
    /// The longest time in which no Instance was bound.
    pub silence: Duration,
    /// From the kill until the last one was bound.
    pub bound: Duration,
    /// How many were not bound when the time was over.
    pub lost: usize,
    /// How many were seen bound to a second host.
    pub twice: usize,
    /// How many hosts had more promised than they have.
    pub overcommitted: usize,
}

/// A binding that the watch has shown.
struct Bound {
    name: String,
    node: String,
    at: Instant,
}

/// Kills a leader in a storm.
pub async fn measure(cloud: &Cloud, hosts: u32, instances: u32, storm: u32) -> Result<Failover, Error> {
    let stop = AtomicBool::new(false);
    let storm_and_end = async {
        let seen = storm_through(cloud, hosts, instances, storm).await;
        stop.store(true, Ordering::Relaxed);
        seen
    };
    let (seen, beating) = tokio::join!(storm_and_end, beat(cloud, hosts, &stop));
    beating?;
    seen
}

/// Writes every heartbeat in turn, and those of the hosts that the storm needs more often: a machine that runs everything
/// else too is late with ten thousand.
async fn beat(cloud: &Cloud, hosts: u32, stop: &AtomicBool) -> Result<(), Error> {
    let narrow = fill::NARROW_HOSTS.min(hosts);
    let mut again = (0..narrow).step_by(AT_A_TIME as usize).cycle();
    let mut ticks = tokio::time::interval(BEAT / hosts.max(1) * AT_A_TIME);
    // After a delay, at the same pace.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for first in (0..hosts).step_by(AT_A_TIME as usize).cycle() {
        ticks.tick().await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let clients = &cloud.clients[..4];
        if first >= narrow
            && let Some(first) = again.next()
        {
            fill::beats(clients, first..narrow.min(first + AT_A_TIME)).await?;
        }
        fill::beats(clients, first..hosts.min(first + AT_A_TIME)).await?;
    }
    Ok(())
}

async fn storm_through(cloud: &Cloud, hosts: u32, instances: u32, storm: u32) -> Result<Failover, Error> {
    let [first, second] = network::REPLICAS;
    let mut leader = Controller::start(&cloud.kubeconfig, first)?;
    leader.until_leading().await?;
    let other = Controller::start(&cloud.kubeconfig, second)?;
    other.until_filled().await?;
    cloud.direct(&[first, second], Some(first)).await?;
    cloud.install_webhooks()?;
    cloud.until_placed_at_create(true).await?;

    let (accepted, refused) = (AtomicU32::new(0), AtomicU32::new(0));
    let (sender, receiver) = mpsc::unbounded_channel();
    let watching = tokio::spawn(watch(cloud.client().clone(), sender));
    // It has begun to watch when it says so.
    let creating = create(cloud, storm, &accepted, &refused);
    let killing = async {
        while accepted.load(Ordering::Relaxed) < storm / 3 {
            sleep(Duration::from_millis(2)).await;
        }
        let before = accepted.load(Ordering::Relaxed);
        leader.kill();
        let killed = Instant::now();
        println!("the leader was killed when {before} of {storm} Instances were accepted");
        let led = follow(cloud, &other, second, killed).await?;
        Ok::<_, Error>((before, killed, led))
    };
    let gathering = gather(receiver, storm);
    let (created, killed, bound) = tokio::join!(creating, killing, gathering);
    watching.abort();
    created?;
    let (before, killed, led) = killed?;
    let all = bound.iter().map(|bound| bound.at).max().unwrap_or(killed);
    let (lost, twice, overcommitted) = judge(cloud, &bound, storm).await?;
    Ok(Failover {
        hosts,
        instances,
        storm,
        before,
        refused: refused.into_inner(),
        led,
        silence: longest_silence(&bound),
        bound: all.saturating_duration_since(killed),
        lost,
        twice,
        overcommitted,
    })
}

/// Does what kubelet and endpoints do for the replica that is left. Returns when it leads.
async fn follow(cloud: &Cloud, other: &Controller, address: Ipv4Addr, killed: Instant) -> Result<Duration, Error> {
    sleep(NOTICED).await;
    cloud.direct(&[address], None).await?;
    while !other.leads() {
        if killed.elapsed() > LIMIT {
            return Err(Error::Leaderless {
                limit_s: LIMIT.as_secs(),
            });
        }
        sleep(LOOK_AGAIN).await;
    }
    let led = killed.elapsed();
    println!("the other replica led after {} ms", led.as_millis());
    cloud.direct(&[address], Some(address)).await?;
    Ok(led)
}

/// Creates all, each until it is accepted.
async fn create(cloud: &Cloud, storm: u32, accepted: &AtomicU32, refused: &AtomicU32) -> Result<(), Error> {
    let began = Instant::now();
    stream::iter(0..storm)
        .map(|n| async move {
            let client = cloud.clients[n as usize % CONNECTIONS].clone();
            let api = Api::<Instance>::namespaced(client, fill::NAMESPACE);
            let instance = fill::instance(&format!("{NAME}{n:05}"), fill::HUGE);
            loop {
                match api.create(&PostParams::default(), &instance).await {
                    Ok(_) => break,
                    // Its answer got lost the last time.
                    Err(kube::Error::Api(status)) if status.code == 409 => break,
                    Err(error) if began.elapsed() > LIMIT => return Err(Error::api("creating an Instance")(error)),
                    Err(_) => {
                        refused.fetch_add(1, Ordering::Relaxed);
                        sleep(AGAIN).await;
                    }
                }
            }
            accepted.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
        .buffer_unordered(CONNECTIONS)
        .try_collect()
        .await
}

/// Sends every binding of the storm that shows, until nobody listens.
async fn watch(client: kube::Client, sender: mpsc::UnboundedSender<Bound>) -> Result<(), kube::Error> {
    let api = Api::<Instance>::namespaced(client, fill::NAMESPACE);
    // The apiserver ends a watch after some minutes; this one lasts longer than the storm.
    let params = WatchParams::default().timeout(290).labels("");
    let version = api.list_metadata(&ListParams::default().limit(1)).await?;
    let version = version.metadata.resource_version.unwrap_or_default();
    let mut events = api.watch(&params, &version).await?.boxed();
    while let Some(event) = events.try_next().await? {
        let (WatchEvent::Added(seen) | WatchEvent::Modified(seen)) = event else {
            continue;
        };
        let name = seen.name_any();
        let Some(node) = seen.spec.node_name.filter(|_| name.starts_with(NAME)) else {
            continue;
        };
        let at = Instant::now();
        if sender.send(Bound { name, node, at }).is_err() {
            break;
        }
    }
    Ok(())
}

/// Each binding when it first showed, until every Instance has one or the time is over.
async fn gather(mut receiver: mpsc::UnboundedReceiver<Bound>, storm: u32) -> Vec<Bound> {
    let mut bound: Vec<Bound> = Vec::new();
    let mut known: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let all = async {
        while known.len() < storm as usize {
            let Some(seen) = receiver.recv().await else { break };
            let nodes = known.entry(seen.name.clone()).or_default();
            if !nodes.contains(&seen.node) {
                nodes.push(seen.node.clone());
                bound.push(seen);
            }
        }
    };
    // Those that are not bound by then are counted as lost.
    let _ = timeout(LIMIT, all).await;
    bound
}

/// How many Instances are lost, how many were bound twice, and how many hosts have too much.
async fn judge(cloud: &Cloud, bound: &[Bound], storm: u32) -> Result<(usize, usize, usize), Error> {
    let mut nodes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for bound in bound {
        nodes.entry(&bound.name).or_default().push(&bound.node);
    }
    let (mut here, mut promised) = (0, BTreeMap::<String, u64>::new());
    let api = Api::<Instance>::namespaced(cloud.client().clone(), fill::NAMESPACE);
    let mut page = ListParams::default().limit(1_000);
    let mut moved = 0;
    loop {
        let list = api.list(&page).await.map_err(Error::api("listing Instances"))?;
        for instance in list.items {
            let name = instance.name_any();
            let Some(node) = instance.spec.node_name else { continue };
            *promised.entry(node.clone()).or_default() += fill::memory(&instance.spec.flavor);
            if let Some(seen) = nodes.get(name.as_str()) {
                here += 1;
                // What the watch did not show after its last look.
                moved += usize::from(seen.len() == 1 && seen[0] != node);
            }
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    let twice = nodes.values().filter(|nodes| nodes.len() > 1).count();
    let overcommitted = promised.values().filter(|memory| **memory > fill::room()).count();
    Ok(((storm as usize).saturating_sub(here), twice + moved, overcommitted))
}

fn longest_silence(bound: &[Bound]) -> Duration {
    let mut times: Vec<Instant> = bound.iter().map(|bound| bound.at).collect();
    times.sort_unstable();
    let gaps = times.windows(2).map(|pair| pair[1].duration_since(pair[0]));
    gaps.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_time_without_a_binding_is_found_in_any_order() {
        let began = Instant::now();
        let at = |seconds: u64| Bound {
            name: format!("{NAME}{seconds}"),
            node: "node-1".to_owned(),
            at: began + Duration::from_secs(seconds),
        };
        assert_eq!(longest_silence(&[at(20), at(0), at(3), at(1)]), Duration::from_secs(17));
        assert_eq!(longest_silence(&[]), Duration::ZERO);
    }
}
