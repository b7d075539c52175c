//! Instances come and go while Virga's processes, libvirt and the apiserver are killed: what is left at the end is what
//! was asked for, no less and no more.
//!
//! `VIRGA_CHAOS_SEED` chooses another course of events; the default is always the same one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Error, ResourceExt};
use virga_crds::{Instance, Port};
use virga_e2e::on_node::Remains;
use virga_e2e::{Case, Installation, eventually, is_ready, with_temp_namespace};
use virga_lab::Lab;

use crate::{domain_of, given_a_place_for_idle_instances, idle, node_of};

const ROUNDS: u32 = 50;
/// The machine has two cores.
const MOST_AT_ONCE: usize = 6;
const DEFAULT_SEED: u64 = 20_261_122;
/// For what was killed last to come back (a Pod's back-off grows to 40 s here) and to finish all that was begun.
const SETTLED: Duration = Duration::from_mins(4);
/// The apiserver takes some seconds to come back.
const WRITTEN: Duration = Duration::from_mins(2);

/// Kills something every other second until it is told to stop.
struct Saboteur {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

impl Saboteur {
    fn at_work(lab: &Lab, mut random: fastrand::Rng) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, lab) = (stop.clone(), lab.clone());
        let thread = thread::spawn(move || {
            let mut deeds = Vec::new();
            while !told.load(Ordering::Relaxed) {
                deeds.push(strike(&lab, &mut random));
                let pause = Duration::from_millis(random.u64(1500..4000));
                for _ in 0..pause.as_millis() / 50 {
                    if told.load(Ordering::Relaxed) {
                        break;
                    }
                    thread::sleep(Duration::from_millis(50));
                }
            }
            deeds
        });
        Self { stop, thread }
    }

    fn stopped(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn strike(lab: &Lab, random: &mut fastrand::Rng) -> String {
    let nodes = lab.nodes();
    let node = &nodes[random.usize(..nodes.len())];
    // The kernel knows a process by the first 15 characters of its name.
    let victim = match random.u32(..10) {
        0..4 => "virga-agent",
        4..6 => "virga-controlle",
        6..9 => "libvirtd",
        _ => {
            let restarted = lab.restart_apiserver();
            return format!("kube-apiserver: {restarted:?}");
        }
    };
    // It may be dead already.
    let outcome = node.kill_process(victim).is_ok();
    format!("{victim} on {}: {outcome}", node.name())
}

/// A write that is tried again until the apiserver has taken it.
async fn written<T>(what: &str, write: impl AsyncFn() -> Result<T, Error>, already: u16) {
    eventually(what, WRITTEN, async || match write().await {
        Ok(_) => Ok(()),
        Err(Error::Api(status)) if status.code == already => Ok(()),
        Err(error) => Err(error.to_string()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_rounds_under_fire_end_with_exactly_what_was_asked_for() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("kills processes on nodes") else {
        return;
    };
    let seed = std::env::var("VIRGA_CHAOS_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or(DEFAULT_SEED);
    println!("VIRGA_CHAOS_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_idle_instances(&t, lab, "10.36.0.0/24").await;
        let before: Vec<Remains> = lab.nodes().iter().map(Remains::of).collect();
        let api = t.api::<Instance>();
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        let saboteur = Saboteur::at_work(lab, random.fork());
        for round in 0..ROUNDS {
            let create = wanted.is_empty() || (wanted.len() < MOST_AT_ONCE && random.u32(..5) < 3);
            if create {
                let name = format!("i-{round:02}");
                let new = idle(&name, &flavor);
                written(
                    &format!("{name} is made"),
                    async || api.create(&PostParams::default(), &new).await,
                    409,
                )
                .await;
                wanted.insert(name);
            } else {
                let number = random.usize(..wanted.len());
                let name = wanted.iter().nth(number).cloned().unwrap_or_default();
                written(
                    &format!("{name} is deleted"),
                    async || api.delete(&name, &DeleteParams::default()).await,
                    404,
                )
                .await;
                wanted.remove(&name);
            }
            // Sometimes the next round finds this one done, sometimes in its midst.
            tokio::time::sleep(Duration::from_millis(random.u64(..2500))).await;
        }
        let deeds = saboteur.stopped();
        println!("{}", deeds.join("\n"));
        let left = exactly(&t, lab, &before, &wanted).await;
        println!("{} Instances are left, as asked for", left.len());

        for name in &wanted {
            t.delete::<Instance>(SETTLED, name).await;
        }
        nothing_is_left(&t, lab, &before).await;
    })
    .await;
}

/// Waits until the Instances are the wanted ones and Ready, and the nodes have their domains and nothing else.
async fn exactly(t: &Case, lab: &Lab, before: &[Remains], wanted: &BTreeSet<String>) -> Vec<Instance> {
    eventually("what there is is what was asked for", SETTLED, async || {
        let found = t.api::<Instance>().list(&ListParams::default()).await;
        let found = found.map_err(|error| error.to_string())?.items;
        let names: BTreeSet<String> = found.iter().map(ResourceExt::name_any).collect();
        let told = || {
            let wide = t
                .cluster
                .kubectl_says(&["get", "instances,ports", "--namespace", &t.namespace]);
            let pods = t
                .cluster
                .kubectl_says(&["get", "pods", "--namespace=virga-system", "--output=wide"]);
            format!("wanted {wanted:?}\n{}\n{}", wide.stdout, pods.stdout)
        };
        if names != *wanted || !found.iter().all(is_ready) {
            return Err(told());
        }
        let ports: Api<Port> = t.api();
        let ports = ports
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?
            .items;
        let plugged: BTreeSet<String> = ports.iter().map(|port| port.spec.instance.clone()).collect();
        let addresses: BTreeSet<String> = ports.iter().map(|port| port.spec.addresses[0].ip.clone()).collect();
        if plugged != *wanted || addresses.len() != wanted.len() {
            return Err(format!("ports {plugged:?} {addresses:?}\n{}", told()));
        }
        let mut expected: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
        for instance in &found {
            let (domains, folders) = expected.entry(node_of(instance)).or_default();
            domains.insert(domain_of(instance));
            folders.insert(instance.uid().unwrap_or_default());
        }
        for (node, before) in lab.nodes().iter().zip(before) {
            let (domains, folders) = expected.remove(&node.name()).unwrap_or_default();
            let there = Remains::of(node).without(before);
            let count = domains.len();
            if (&there.domains, &there.instances) != (&domains, &folders) || there.processes.len() != count {
                return Err(format!("{} has {there:#?}\nnot {domains:?} {folders:?}", node.name()));
            }
        }
        Ok(found)
    })
    .await
}

async fn nothing_is_left(t: &Case, lab: &Lab, before: &[Remains]) {
    eventually("nothing is left", SETTLED, async || {
        let ports = t.api::<Port>().list(&ListParams::default()).await;
        let ports = ports.map_err(|error| error.to_string())?.items;
        if !ports.is_empty() {
            return Err(format!("{ports:?}"));
        }
        for (node, before) in lab.nodes().iter().zip(before) {
            let left = Remains::of(node).without(before);
            if !left.is_empty() {
                return Err(format!("{} has {left:#?}", node.name()));
            }
        }
        Ok(())
    })
    .await;
}
