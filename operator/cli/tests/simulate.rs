//! The binary, as users run it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

fn virga(directory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubectl-virga"))
        .current_dir(directory)
        .args(args)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

const FLAVOR: &str = "
apiVersion: virga.dev/v1alpha1
kind: Flavor
metadata: {name: m1.small}
spec: {vcpus: 2, memory: 4Gi, disk: 20Gi}
---
apiVersion: virga.dev/v1alpha1
kind: Image
metadata: {name: debian, namespace: shop}
spec: {source: {path: debian.qcow2}}
";

/// So many hosts with room for four Instances each by their memory, in racks of 40 that are aggregates, and so many
/// Instances.
fn world(hosts: usize, instances: usize) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir_all(at("hosts")).unwrap();
    fs::write(at("flavors.yaml"), FLAVOR).unwrap();
    let mut text = String::new();
    for rack in 0..hosts.div_ceil(40) {
        write!(
            text,
            "---\n{{apiVersion: virga.dev/v1alpha1, kind: HostAggregate, metadata: {{name: rack-{rack}}}, \
             spec: {{availabilityZone: az{}, selector: {{matchLabels: {{rack: '{rack}'}}}}}}}}\n",
            rack % 3 + 1
        )
        .unwrap();
    }
    fs::write(at("hosts/aggregates.yaml"), &text).unwrap();
    text.clear();
    for n in 0..hosts {
        write!(
            text,
            "---\n{{apiVersion: virga.dev/v1alpha1, kind: Hypervisor, metadata: {{name: node-{n:04}, labels: {{rack: '{}'}}}}, \
             spec: {{}}, status: {{capacity: {{vcpus: 16, memory: 17Gi, disk: 1Ti}}, \
             cpu: {{architecture: x86_64, model: EPYC, vendor: AMD}}}}}}\n",
            n / 40
        )
        .unwrap();
    }
    fs::write(at("hosts/nodes.yaml"), &text).unwrap();
    text.clear();
    for n in 0..instances {
        write!(
            text,
            "---\n{{apiVersion: virga.dev/v1alpha1, kind: Instance, metadata: {{name: web-{n:04}, namespace: shop}}, \
             spec: {{flavor: m1.small, image: {{name: debian}}, placement: {{availabilityZone: az{}}}}}}}\n",
            n % 3 + 1
        )
        .unwrap();
    }
    fs::write(at("instances.yaml"), &text).unwrap();
    directory
}

#[test]
fn two_thousand_instances_on_a_thousand_hosts_take_seconds() {
    let world = world(1000, 2000);
    let begun = Instant::now();
    let printed = stdout(&virga(world.path(), &["simulate", "-f", ".", "--plot", "fill.svg"]));
    let took = begun.elapsed();
    // Without optimisation, on a busy machine; with it this takes less than two seconds.
    assert!(took < Duration::from_mins(1), "{took:?}");
    assert!(
        printed.contains("Profile standard, seed 0: 2000 placed, 0 refused, 0 placed before"),
        "{printed:.2000}"
    );
    assert_eq!(
        printed.lines().filter(|line| line.starts_with("shop/web-")).count(),
        2000
    );
    assert_eq!(printed.lines().filter(|line| line.starts_with("node-")).count(), 1000);
    let svg = fs::read_to_string(world.path().join("fill.svg")).unwrap();
    assert_eq!(svg.matches("<title>node-").count(), 3 * 1000);
}

#[test]
fn programs_get_every_survivor_with_its_weight() {
    let world = world(100, 60);
    let args = [
        "simulate",
        "-f",
        "hosts",
        "flavors.yaml",
        "instances.yaml",
        "-o",
        "json",
    ];
    let printed = stdout(&virga(world.path(), &args));
    let json: Value = serde_json::from_str(&printed).unwrap();
    let run = &json["runs"][0];
    assert_eq!(run["profile"], "standard");
    assert_eq!((&run["placed"], &run["refused"]), (&60.into(), &0.into()));
    let instances = run["instances"].as_array().unwrap();
    assert_eq!(instances.len(), 60);
    for instance in instances {
        let survivors = instance["survivors"].as_array().unwrap();
        let rejected = instance["rejections"].as_array().unwrap().iter();
        let rejected: u64 = rejected.map(|rejection| rejection["count"].as_u64().unwrap()).sum();
        assert_eq!(instance["fits"].as_u64().unwrap(), survivors.len() as u64);
        assert_eq!(rejected + survivors.len() as u64, 100);
        let weight = |survivor: &Value| survivor["weight"].as_f64().unwrap();
        let best = survivors.iter().map(weight).fold(f64::MIN, f64::max);
        let chosen = survivors
            .iter()
            .find(|survivor| survivor["host"] == instance["host"])
            .unwrap();
        assert!((weight(chosen) - best).abs() < 1e-9, "{instance}");
    }
    let hosts = run["hosts"].as_array().unwrap();
    let used: u64 = hosts.iter().map(|host| host["vcpus"]["used"].as_u64().unwrap()).sum();
    assert_eq!((hosts.len(), used), (100, 120));
    assert_eq!(stdout(&virga(world.path(), &args)), printed, "the same again");
    let other = stdout(&virga(world.path(), &[&args[..], &["--seed", "7"]].concat()));
    assert_ne!(other, printed, "chance decides among equals");
}

#[test]
fn two_profiles_stand_side_by_side() {
    let world = world(12, 9);
    fs::write(world.path().join("pack.yaml"), "strategy: Pack\n").unwrap();
    fs::write(world.path().join("spread.yaml"), "strategy: Spread\n").unwrap();
    let files = ["simulate", "-f", "hosts", "-f", "flavors.yaml", "-f", "instances.yaml"];
    let profiles = [
        "--profile",
        "spread.yaml",
        "--profile",
        "pack.yaml",
        "--plot",
        "both.svg",
    ];
    let printed = stdout(&virga(world.path(), &[&files[..], &profiles[..]].concat()));
    // All hosts are of one rack and zone az1: six of nine Instances want another zone.
    assert!(
        printed.contains("Profile spread.yaml, seed 0: 3 placed, 6 refused, 0 placed before; 3 of 12 hosts in use.\n  6 refused: 0/12 hosts: 12 AvailabilityZoneFilter\n"),
        "{printed}"
    );
    assert!(
        printed.contains("Profile pack.yaml, seed 0: 3 placed, 6 refused, 0 placed before; 1 of 12 hosts in use."),
        "{printed}"
    );
    assert!(
        printed
            .lines()
            .any(|line| line.starts_with("INSTANCE") && line.ends_with("spread.yaml   pack.yaml   DIFFERS")),
        "{printed}"
    );
    assert!(
        fs::read_to_string(world.path().join("both.svg"))
            .unwrap()
            .contains(">pack.yaml: 12 hosts<")
    );
    let third = virga(
        world.path(),
        &[&files[..], &["--profile", "a", "--profile", "b", "--profile", "c"]].concat(),
    );
    assert_eq!(third.status.code(), Some(1));
}

#[test]
fn the_status_says_whether_something_was_refused_only_when_asked() {
    let world = world(1, 3);
    let files = ["simulate", "-f", "."];
    assert_eq!(virga(world.path(), &files).status.code(), Some(0));
    assert_eq!(
        virga(world.path(), &[&files[..], &["--fail-on-refused"]].concat())
            .status
            .code(),
        Some(3)
    );
}

#[test]
fn wrong_manifests_are_told_with_their_places_and_nothing_is_simulated() {
    let world = world(1, 1);
    fs::write(
        world.path().join("broken.yaml"),
        "kind: Flavor\n---\n{apiVersion: virga.dev/v1alpha1, kind: Flavor, metadata: {name: a}, spec: {vcpu: 1}}\n",
    )
    .unwrap();
    let output = virga(world.path(), &["simulate", "-f", ".", "/no/such/file.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let errors = String::from_utf8(output.stderr).unwrap();
    for wrong in [
        "error: reading the manifests: 5 things are wrong",
        "./broken.yaml, document 1: apiVersion: is missing, or no text",
        "./broken.yaml, document 2: spec.vcpu: there is no such field; did you mean vcpus?",
        "./broken.yaml, document 2: spec.vcpus: is missing",
        "./broken.yaml, document 2: spec.memory: is missing",
        "/no/such/file.yaml: No such file or directory",
    ] {
        assert!(errors.contains(wrong), "{errors}");
    }
}
