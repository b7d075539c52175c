//! Is a host that an operator has cordoned left alone, and only by new Instances?

use serde_json::json;
use virga_crds::{Instance, PowerState};
use virga_e2e::{BOUND, Case, Cluster, Installation, condition, eventually, is_ready, with_temp_namespace};

use crate::{GUEST, given_a_place_for_idle_instances, host, idle, node_of, nothing_new_is_left, qemu_of, remains};

/// Hosts that are cordoned until this goes, whatever becomes of the test.
pub(crate) struct Cordon<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) hosts: Vec<String>,
}

impl Cordon<'_> {
    pub(crate) fn add(&mut self, host: &str) {
        self.hosts.push(host.to_owned());
        let said = schedule(self.cluster, host, "Cordoned");
        assert!(said.ok, "{}", said.stderr);
    }

    fn lift(&mut self, host: &str) {
        let said = schedule(self.cluster, host, "Enabled");
        assert!(said.ok, "{}", said.stderr);
        self.hosts.retain(|other| other != host);
    }
}

impl Drop for Cordon<'_> {
    fn drop(&mut self) {
        for host in &self.hosts {
            let said = schedule(self.cluster, host, "Enabled");
            if !said.ok {
                eprintln!("{host} stays cordoned: {}", said.stderr);
            }
        }
    }
}

fn schedule(cluster: &Cluster, host: &str, scheduling: &str) -> virga_e2e::Said {
    let change = json!({"spec": {"scheduling": scheduling}}).to_string();
    cluster.kubectl_says(&["patch", "hypervisor", host, "--type=merge", "--patch", &change])
}

/// Waits until the scheduler says this of one more Instance, in a dry run: it hears of a cordon a moment later.
async fn await_dry_run(t: &Case, asked: &Instance, words: &str) {
    let asked = serde_yaml::to_string(asked).unwrap();
    let args = [
        "create",
        "--dry-run=server",
        "--filename=-",
        "--namespace",
        &t.namespace,
    ];
    eventually(&format!("a dry run says: {words}"), BOUND, async || {
        let said = t.cluster.kubectl_says_of(&args, &asked);
        said.stderr.contains(words).then_some(()).ok_or(said.stderr)
    })
    .await;
}

#[tokio::test]
async fn new_instances_go_around_cordoned_hosts_and_wait_when_all_are() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("cordons all hosts") else {
        return;
    };
    with_temp_namespace(&installation.cluster, async |t| {
        let flavor = given_a_place_for_idle_instances(&t, lab, "10.41.0.0/24").await;
        let before = remains(lab);
        let hosts: Vec<String> = lab.nodes().iter().map(virga_lab::Node::name).collect();
        let (open, closed) = hosts.split_first().unwrap();
        let mut cordon = Cordon {
            cluster: &t.cluster,
            hosts: Vec::new(),
        };
        for host in closed {
            cordon.add(host);
        }
        let one = format!("would be placed on {open} (1 of {} hosts fit)", hosts.len());
        await_dry_run(&t, &idle("first", &flavor), &one).await;
        for name in ["first", "second"] {
            t.create(idle(name, &flavor)).await;
        }
        for name in ["first", "second"] {
            let placed = t.await_within::<Instance>(GUEST, name, "Ready", is_ready).await;
            assert_eq!(&node_of(&placed), open, "{name}");
        }

        cordon.add(open);
        let none = format!("0/{0} hosts: {0} ComputeFilter (disabled)", hosts.len());
        await_dry_run(&t, &idle("waits", &flavor), &none).await;
        t.create(idle("waits", &flavor)).await;
        let waits = t
            .await_condition::<Instance>("waits", "NoValidHost", |found| {
                condition(found, "Scheduled").is_some_and(|scheduled| scheduled.reason == "NoValidHost")
            })
            .await;
        let scheduled = condition(&waits, "Scheduled").unwrap();
        assert_eq!(
            (scheduled.status.as_str(), scheduled.message.as_str()),
            ("False", none.as_str())
        );
        assert_eq!(waits.spec.node_name, None);
        // Those that are there stay, and go on being looked after.
        let first = t.api::<Instance>().get("first").await.unwrap();
        let qemu = qemu_of(&host(lab, &first), &first);
        t.patch::<Instance>("first", json!({"spec": {"powerState": "Paused"}}))
            .await;
        let first = t
            .await_condition::<Instance>("first", "paused", |found: &Instance| {
                found.spec.power_state == PowerState::Paused && is_ready(found)
            })
            .await;
        assert_eq!(qemu_of(&host(lab, &first), &first), qemu);

        let again = &closed[0];
        cordon.lift(again);
        let placed = t.await_within::<Instance>(GUEST, "waits", "Ready", is_ready).await;
        assert_eq!(&node_of(&placed), again);

        for name in ["first", "second", "waits"] {
            t.delete::<Instance>(BOUND, name).await;
        }
        nothing_new_is_left(lab, &before).await;
    })
    .await;
}
