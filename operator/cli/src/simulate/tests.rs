use std::convert::Infallible;

use virga_scheduler::{ProfileSpec, Strategy};

use super::*;
use crate::manifests::of_text;

/// Two empty hosts, of which `large` has twice as much of all, and one that is closed.
const WORLD: &str = "
apiVersion: v1
kind: List
items:
- apiVersion: virga.dev/v1alpha1
  kind: Hypervisor
  metadata: {name: large}
  spec: {reserved: {memory: 0}}
  status: {capacity: {vcpus: 8, memory: 16Gi, disk: 200Gi}, cpu: {architecture: x86_64, model: m, vendor: v}}
- apiVersion: virga.dev/v1alpha1
  kind: Hypervisor
  metadata: {name: small}
  spec: {reserved: {memory: 0}}
  status: {capacity: {vcpus: 4, memory: 8Gi, disk: 100Gi}, cpu: {architecture: x86_64, model: m, vendor: v}}
- apiVersion: virga.dev/v1alpha1
  kind: Hypervisor
  metadata: {name: closed}
  spec: {scheduling: Cordoned, reason: new disks}
  status: {capacity: {vcpus: 64, memory: 64Gi, disk: 100Gi}}
- {apiVersion: virga.dev/v1alpha1, kind: Flavor, metadata: {name: four}, spec: {vcpus: 1, memory: 4Gi, disk: 10Gi}}
- {apiVersion: virga.dev/v1alpha1, kind: Image, metadata: {name: debian, namespace: shop}, spec: {source: {path: a.qcow2}}}
";

fn instances(count: usize, more: &str) -> String {
    let instance = |n| {
        format!(
            "---\n{{apiVersion: virga.dev/v1alpha1, kind: Instance, metadata: {{name: web-{n}, namespace: shop}}, \
             spec: {{flavor: four, image: {{name: debian}}{more}}}}}\n"
        )
    };
    (1..=count).map(instance).collect()
}

fn rules(strategy: Strategy) -> Rules {
    let spec = ProfileSpec {
        strategy,
        ..virga_controller::scheduling::profile::standard()
    };
    Rules {
        profile: profile::Named {
            name: "test".into(),
            profile: virga_scheduler::Profile::resolve(&spec).unwrap(),
        },
        defaults: HostDefaults::default(),
        seed: 0,
        burst: false,
        survivors: true,
    }
}

fn simulated(text: &str, rules: &Rules) -> (Vec<Decision>, Summary) {
    let objects = of_text("world.yaml", text).unwrap().objects;
    let mut decisions = Vec::new();
    let Ok(summary) = simulate(&objects, rules, |decision| {
        decisions.push(decision);
        Ok::<(), Infallible>(())
    });
    (decisions, summary)
}

fn hosts(decisions: &[Decision]) -> Vec<&str> {
    decisions
        .iter()
        .map(|decision| decision.host.as_deref().unwrap_or("-"))
        .collect()
}

#[test]
fn spreading_goes_where_most_is_left_and_packing_where_least_is() {
    // Nova's RAMWeigher, CPUWeigher and DiskWeigher scale from 0 to the most that is free. Large and small have 16 and 8 GiB
    // of memory free, 32 and 16 vCPUs (four times over), 200 and 100 GiB of disk. After each Instance of 4 GiB, 1 vCPU and
    // 10 GiB on large that is 12:8, 31:16, 190:100, then 8:8, 30:16, 180:100, then 4:8, 29:16, 170:100, where large still
    // has 0.5 + 1 + 1 against 1 + 0.55 + 0.59. Then large has no memory left. Packing prefers less of each.
    let text = format!("{WORLD}{}", instances(7, ""));
    let (spread, summary) = simulated(&text, &rules(Strategy::Spread));
    assert_eq!(
        hosts(&spread),
        ["large", "large", "large", "large", "small", "small", "-"]
    );
    assert_eq!((summary.placed, summary.refused, summary.already_placed), (6, 1, 0));
    let weights: Vec<f64> = spread[0]
        .survivors
        .iter()
        .flatten()
        .map(|survivor| survivor.weight)
        .collect();
    assert_eq!(weights, [3.0, 1.5], "half as much of each");
    let fourth = spread[3].survivors.as_ref().unwrap();
    let expected = [0.5 + 1.0 + 1.0, 1.0 + 16.0 / 29.0 + 100.0 / 170.0];
    for (survivor, expected) in fourth.iter().zip(expected) {
        assert!((survivor.weight - expected).abs() < 1e-9, "{survivor:?} {expected}");
    }
    let (pack, _) = simulated(&text, &rules(Strategy::Pack));
    assert_eq!(
        hosts(&pack),
        ["small", "small", "large", "large", "large", "large", "-"]
    );
}

#[test]
fn refusals_name_the_filters_with_the_words_for_operators() {
    let text = format!("{WORLD}{}", instances(7, ""));
    let (decisions, _) = simulated(&text, &rules(Strategy::Spread));
    let last = decisions.last().unwrap();
    assert_eq!((last.hosts, last.fits), (3, 0));
    assert_eq!(
        last.message,
        "0/3 hosts: 2 RamFilter, 1 ComputeFilter (disabled: new disks)"
    );
    let counts: Vec<_> = last
        .rejections
        .iter()
        .map(|rejection| (rejection.filter, rejection.count))
        .collect();
    assert_eq!(counts, [("ComputeFilter", 1), ("RamFilter", 2)]);
    assert_eq!(last.survivors.as_deref(), Some(&[][..]));
    let first = &decisions[0];
    assert_eq!((first.hosts, first.fits, first.rejections.len()), (3, 2, 1));
}

#[test]
fn those_that_are_placed_count_before_all_others_wherever_they_stand() {
    let text = format!(
        "{WORLD}{}---\n{{apiVersion: virga.dev/v1alpha1, kind: Instance, metadata: {{name: old, namespace: shop}}, \
         spec: {{flavor: four, image: {{name: debian}}, nodeName: large}}}}\n",
        instances(1, "")
    );
    let (decisions, summary) = simulated(&text, &rules(Strategy::Spread));
    assert_eq!(decisions.len(), 1);
    assert_eq!(summary.already_placed, 1);
    let large = summary.hosts.iter().find(|host| host.name == "large").unwrap();
    assert_eq!(
        (large.instances, large.memory.used, large.vcpus.limit),
        (2, 8 << 30, 32)
    );
}

#[test]
fn a_volume_is_bound_with_its_first_instance_and_holds_the_next_one() {
    let volume = "---\n{apiVersion: virga.dev/v1alpha1, kind: Volume, metadata: {name: data, namespace: shop}, spec: {size: 30Gi}}\n";
    let text = format!("{WORLD}{volume}{}", instances(3, ", volumes: [{name: data}]"));
    let (decisions, summary) = simulated(&text, &rules(Strategy::Pack));
    assert_eq!(hosts(&decisions), ["small", "small", "-"]);
    assert!(
        decisions[2].message.contains("volume shop/data is on small"),
        "{}",
        decisions[2].message
    );
    let small = summary.hosts.iter().find(|host| host.name == "small").unwrap();
    assert_eq!(
        (small.instances, small.disk.used),
        (2, 50 << 30),
        "the volume counts once"
    );
}

#[test]
fn groups_and_hints_hold_also_among_those_that_come_later() {
    let group = "---\n{apiVersion: virga.dev/v1alpha1, kind: ServerGroup, metadata: {name: web, namespace: shop}, spec: {policy: AntiAffinity}}\n";
    let text = format!("{WORLD}{group}{}", instances(3, ", serverGroup: web"));
    let (decisions, _) = simulated(&text, &rules(Strategy::Pack));
    assert_eq!(hosts(&decisions), ["small", "large", "-"]);
    let hinted = "---\n{apiVersion: virga.dev/v1alpha1, kind: Instance, metadata: {name: first, namespace: shop}, \
                  spec: {flavor: four, image: {name: debian}, placement: {hints: {differentHost: [web-1]}}}}\n";
    let text = format!("{WORLD}{hinted}{}", instances(1, ""));
    let (decisions, _) = simulated(&text, &rules(Strategy::Pack));
    assert_eq!(decisions[0].name, "web-1", "the other waits for it");
    assert_eq!(hosts(&decisions), ["small", "large"]);
}

#[test]
fn what_is_missing_is_told_with_field_and_cure() {
    let text = format!("{WORLD}{}", instances(1, "").replace("four", "for"));
    let (decisions, summary) = simulated(&text, &rules(Strategy::Spread));
    assert_eq!(summary.refused, 1);
    assert_eq!(decisions[0].obstacles[0].field, "spec.flavor");
    assert_eq!(
        decisions[0].message,
        "spec.flavor: there is no Flavor \"for\": create it, or did you mean four?"
    );
}

#[test]
fn in_a_burst_those_that_are_placed_are_still_being_built() {
    let spec = ProfileSpec {
        filters: vec!["IoOpsFilter".into()],
        options: virga_scheduler::Options {
            max_io_ops_per_host: 1,
            ..virga_scheduler::Options::default()
        },
        ..ProfileSpec::default()
    };
    let one_after_the_other = Rules {
        profile: profile::Named {
            name: "io".into(),
            profile: virga_scheduler::Profile::resolve(&spec).unwrap(),
        },
        ..rules(Strategy::Spread)
    };
    let burst = Rules {
        burst: true,
        ..one_after_the_other.clone()
    };
    let text = format!("{WORLD}{}", instances(6, ""));
    assert_eq!(simulated(&text, &one_after_the_other).1.placed, 6);
    let (decisions, summary) = simulated(&text, &burst);
    assert!(summary.placed < 6, "{:?}", hosts(&decisions));
    assert!(decisions[5].message.contains("IoOpsFilter"), "{}", decisions[5].message);
}

#[test]
fn people_read_decisions_reasons_and_how_full_the_hosts_are() {
    let wrong = instances(1, "").replace("four", "for").replace("web-1", "odd");
    let text = format!("{WORLD}{}{wrong}", instances(7, ""));
    let objects = of_text("world.yaml", &text).unwrap().objects;
    let printed = |runs: &[Rules]| {
        let mut out = Vec::new();
        report::print(&objects, runs, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    insta::assert_snapshot!("one_profile", printed(&[rules(Strategy::Spread)]));
    insta::assert_snapshot!(
        "two_profiles",
        printed(&[rules(Strategy::Spread), rules(Strategy::Pack)])
    );
}
