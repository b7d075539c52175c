//! One guest, a seeded walk over its verbs, and an agent that is killed on the way: does it end in what was asked for last?
//!
//! The walk over all verbs and all moments is in the agent's tests, on a hypervisor that is none; this one is short, and
//! QEMU is real. `VIRGA_WALK_SEED` chooses another course; the default is always the same one.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use virga_crds::{Bytes, FlavorSpec, Instance, InstanceState, VolumeAttachment};
use virga_e2e::objects::{instance, network, plugged, tiny, volume};
use virga_e2e::{Installation, is_ready, on_node, with_temp_namespace};

use crate::{GUEST, cordon::Cordon, domain_of, given_a_place_for_guests, host, nothing_new_is_left, remains};

const STEPS: usize = 14;
const DEFAULT_SEED: u64 = 7;
/// For what was begun to end, a guest to be saved or shut down, and the agent's Pod to come back.
const SETTLED: Duration = Duration::from_mins(5);

/// What was asked for, as far as it forbids something else.
struct Wishes {
    power: &'static str,
    rescued: bool,
    /// The Flavors that it goes to and fro between.
    flavors: [String; 2],
}

impl Wishes {
    /// Something else to ask for, which the schema allows.
    fn next(&mut self, random: &mut fastrand::Rng) -> Value {
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        loop {
            let steady = ["Running", "Stopped"].contains(&self.power);
            match random.u32(..13) {
                0 | 1 => self.power = "Running",
                2 => self.power = "Stopped",
                3 if !self.rescued => self.power = "Paused",
                4 if !self.rescued && !["Stopped", "Shelved"].contains(&self.power) => self.power = "Suspended",
                5 => return json!({"reboot": {"at": now, "type": "Hard"}}),
                6 => return json!({"rebuild": {"at": now}}),
                7 if steady => {
                    self.rescued = !self.rescued;
                    return json!({"rescue": self.rescued.then(|| json!({}))});
                }
                8 => {
                    let attached = random.bool().then(|| json!({"name": "data"}));
                    return json!({"volumes": attached.into_iter().collect::<Vec<_>>()});
                }
                9 => {
                    let networks = if random.bool() { &["net", "back"][..] } else { &["net"] };
                    let interfaces: Vec<_> = networks.iter().map(|network| json!({ "network": network })).collect();
                    return json!({ "interfaces": interfaces });
                }
                10 | 11 => return json!({"flavor": self.flavors[usize::from(random.bool())]}),
                12 if !self.rescued => self.power = "Shelved",
                _ => continue,
            }
            return json!({"powerState": self.power});
        }
    }
}

#[tokio::test]
async fn a_walk_over_the_verbs_of_a_real_guest_ends_in_what_was_asked_for_last() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("kills the agent on the guest's node") else {
        return;
    };
    let seed = std::env::var("VIRGA_WALK_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or(DEFAULT_SEED);
    println!("VIRGA_WALK_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_guests(&t, "10.62.0.0/24").await;
        t.create(network("back", "10.63.0.0/24")).await;
        let two = t.flavor("two", FlavorSpec { vcpus: 2, ..tiny() }).await;
        let before = remains(lab);
        t.create(volume("data", Bytes::mib(16))).await;
        let mut walker = plugged(instance("walker", &flavor), "net");
        walker.spec.volumes.push(VolumeAttachment { name: "data".into() });
        t.create(walker).await;
        let walker = t.await_within::<Instance>(GUEST, "walker", "Ready", is_ready).await;
        let (node, domain) = (host(lab, &walker), domain_of(&walker));
        let addresses = walker.status.unwrap().addresses;
        // Its volume is on this host: shelved without it, it is to come back to it.
        let mut cordon = Cordon {
            cluster: &t.cluster,
            hosts: Vec::new(),
        };
        for other in lab.nodes().iter().filter(|other| other.name() != node.name()) {
            cordon.add(&other.name());
        }

        let mut wishes = Wishes {
            power: "Running",
            rescued: false,
            flavors: [flavor, two.clone()],
        };
        for _ in 0..STEPS {
            let wish = wishes.next(&mut random);
            let killed = random.u32(..3) == 0 && node.kill_process("virga-agent").is_ok();
            println!("{wish}{}", if killed { ", and the agent is killed" } else { "" });
            t.patch::<Instance>("walker", json!({"spec": wish})).await;
            // Sometimes the next one finds this one done, sometimes in its midst; no two ask at the same second.
            tokio::time::sleep(Duration::from_millis(random.u64(1000..6000))).await;
        }

        let last = json!({
            "rescue": null, "powerState": "Running", "volumes": [{"name": "data"}], "flavor": two,
            "interfaces": [{"network": "net"}],
        });
        t.patch::<Instance>("walker", json!({ "spec": last })).await;
        let runs = |found: &Instance| {
            let state = found.status.as_ref().and_then(|status| status.state);
            let observed = found.status.as_ref().and_then(|status| status.observed_generation);
            is_ready(found) && state == Some(InstanceState::Active) && observed == found.metadata.generation
        };
        let ended = t
            .await_within::<Instance>(SETTLED, "walker", "running again", runs)
            .await;
        let status = ended.status.unwrap();
        assert_eq!(status.addresses, addresses);
        assert_eq!(status.flavor.unwrap().name, two);
        let cpus = on_node::run(&node, &["virsh", "vcpucount", &domain, "--active", "--live"]);
        assert_eq!(cpus.trim(), "2");
        let state = on_node::run(&node, &["virsh", "domstate", &domain]);
        assert_eq!(state.trim(), "running");
        let disks = on_node::run(&node, &["virsh", "domblklist", &domain]);
        assert!(disks.contains("root.qcow2") && !disks.contains("rescue."), "{disks}");
        assert!(disks.contains("vdb"), "{disks}");

        drop(cordon);
        t.delete::<Instance>(GUEST, "walker").await;
        t.delete::<virga_crds::Volume>(GUEST, "data").await;
        nothing_new_is_left(lab, &before).await;
    })
    .await;
}
