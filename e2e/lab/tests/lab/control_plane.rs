//! A control plane without nodes, for tests of the API.

use std::env;
use std::panic;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use virga_lab::{Administered, ControlPlane};

use crate::support::{eventually, so};

/// Not a test: what another one runs in a process of its own, to kill it.
#[test]
#[ignore = "run by another test"]
fn make_a_control_plane_for_another_test() {
    let cluster = ControlPlane::up().unwrap();
    println!("kubeconfig {}", cluster.kubeconfig().display());
    std::thread::sleep(Duration::from_mins(1));
}

fn is_gone(kubeconfig: &std::path::Path) {
    let folder = kubeconfig.parent().unwrap();
    let mention = folder.display().to_string();
    eventually("the control plane is gone", || {
        so(!folder.exists(), format!("{mention} is still there"))?;
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let mut lines = processes.map(|process| std::fs::read(process.path().join("cmdline")).unwrap_or_default());
        so(
            !lines.any(|line| String::from_utf8_lossy(&line).contains(&mention)),
            "a process is still there",
        )
    });
}

#[test]
fn it_answers_soon_keeps_the_rules_and_two_run_side_by_side() {
    let began = Instant::now();
    let first = ControlPlane::up().unwrap();
    let took = began.elapsed();
    println!("up in {took:?}");
    assert!(took < Duration::from_secs(30), "up took {took:?}");

    let second = ControlPlane::up().unwrap();
    first.kubectl(&["create", "configmap", "only-in-first"]).unwrap();
    assert!(second.kubectl(&["get", "configmap", "only-in-first"]).is_err());

    // The controllers work: a namespace gets its service account, and goes away with all in it.
    first.kubectl(&["create", "namespace", "shop"]).unwrap();
    first
        .kubectl(&[
            "wait",
            "--for=create",
            "serviceaccount/default",
            "--namespace=shop",
            "--timeout=30s",
        ])
        .unwrap();
    first
        .kubectl(&["delete", "namespace", "shop", "--timeout=30s"])
        .unwrap();

    // So do policies (ValidatingAdmissionPolicy).
    let policy = first.kubectl_with_input(&["apply", "--filename=-"], include_str!("policy.yaml"));
    policy.unwrap();
    eventually("the policy is in force", || {
        let denied = first.kubectl(&["create", "configmap", "forbidden-name", "--dry-run=server"]);
        so(
            denied.is_err_and(|error| virga_lab::chain(&error).contains("no such names")),
            "still admitted",
        )
    });

    install_a_chart(&first);

    let files = [first.kubeconfig(), second.kubeconfig()];
    drop((first, second));
    for file in files {
        is_gone(&file);
    }
}

fn install_a_chart(cluster: &ControlPlane) {
    let chart = tempfile::tempdir().unwrap();
    let path = chart.path().to_str().unwrap();
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-chart}\n";
    std::fs::create_dir(chart.path().join("templates")).unwrap();
    std::fs::write(chart.path().join("templates/map.yaml"), template).unwrap();
    // Helm judges this by its own idea of Kubernetes when there is no cluster.
    let about = "apiVersion: v2\nname: small\nversion: 1.0.0\nkubeVersion: '>=1.30'\n";
    std::fs::write(chart.path().join("Chart.yaml"), about).unwrap();
    cluster.helm(&["template", "small", path]).unwrap();
    cluster
        .helm(&["install", "small", path, "--wait", "--timeout=30s"])
        .unwrap();
    cluster.kubectl(&["get", "configmap", "from-chart"]).unwrap();
}

#[test]
fn it_ends_with_a_panic() {
    let file = panic::catch_unwind(|| {
        let cluster = ControlPlane::up().unwrap();
        panic::panic_any(cluster.kubeconfig());
    });
    let file = file.unwrap_err().downcast::<PathBuf>().unwrap();
    is_gone(&file);
}

#[test]
fn it_ends_with_its_process() {
    use std::io::{BufRead, BufReader};
    let mut maker = Command::new(env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "control_plane::make_a_control_plane_for_another_test",
            "--nocapture",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(maker.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let file = lines
        .find_map(|line| Some(PathBuf::from(line.split_once("kubeconfig ")?.1)))
        .unwrap();
    assert!(file.exists());
    maker.kill().unwrap();
    maker.wait().unwrap();
    is_gone(&file);
}
