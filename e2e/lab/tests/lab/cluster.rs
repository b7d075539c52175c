//! The lab is a cluster of hosts: what runs on one runs here.

use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use virga_lab::{Administered, Lab, images};

use crate::support::{Turn, eventually, so};

const HELLO: &str = include_str!("hello.yaml");
const NETWORK: &str = include_str!("network.xml");
const DOMAIN: &str = include_str!("domain.xml");

/// When a node's kubelet last said that it lives.
fn heartbeat(lab: &Lab, node: &str) -> Result<String, String> {
    let path = "--output=jsonpath={.spec.renewTime}";
    lab.kubectl(&["get", "lease", node, "--namespace=kube-node-lease", path])
        .map_err(|error| virga_lab::chain(&error))
}

#[test]
fn pods_run_on_every_node_and_a_service_reaches_them_across_nodes() {
    let turn = Turn::take();
    let began = Instant::now();
    let lab = turn.lab(3);
    assert!(
        began.elapsed() < Duration::from_mins(1),
        "up took {:?}",
        began.elapsed()
    );

    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("hello.tar");
    images::hello(&archive).unwrap();
    lab.load_image(&archive).unwrap();
    lab.kubectl_with_input(&["apply", "--filename=-"], HELLO).unwrap();
    lab.kubectl(&["rollout", "status", "daemonset/hello", "--timeout=60s"])
        .unwrap();

    // The Service answers on each node, and not only from the pod of that node.
    let address = lab
        .kubectl(&["get", "service", "hello", "--output=jsonpath={.spec.clusterIP}"])
        .unwrap();
    let ask = format!("exec 3<>/dev/tcp/{address}/80 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && tail -n 1 <&3");
    for node in lab.nodes() {
        let mut answers = std::collections::BTreeSet::new();
        eventually("two different pods answer", || {
            let answer = node
                .run(&["timeout", "5", "bash", "-c", &ask])
                .map_err(|error| virga_lab::chain(&error))?;
            assert!(answer.starts_with("hello from hello-"), "{answer}");
            answers.insert(answer);
            so(
                answers.len() > 1,
                format!("only {answers:?} answered on {}", node.name()),
            )
        });
    }

    // The apiserver reaches pods (it calls webhooks at their addresses), and pods reach the apiserver.
    let proxied = "/api/v1/namespaces/default/services/hello:80/proxy/";
    assert!(
        lab.kubectl(&["get", "--raw", proxied])
            .unwrap()
            .starts_with("hello from")
    );
    for node in lab.nodes() {
        let (pod, _) = node
            .processes()
            .unwrap()
            .into_iter()
            .find(|(_, name)| name == "hello")
            .unwrap();
        let connect = ["-c", "exec 3<>/dev/tcp/10.96.0.1/443"];
        let inside = Command::new("nsenter")
            .arg(format!("--net=/proc/{pod}/ns/net"))
            .arg("bash")
            .args(connect)
            .status();
        assert!(
            inside.unwrap().success(),
            "no way from a pod on {} to the apiserver",
            node.name()
        );
    }

    // Logs and exec go through the kubelets.
    let pods = lab
        .kubectl(&["get", "pods", "--selector=app=hello", "--output=json"])
        .unwrap();
    let pods: Value = serde_json::from_str(&pods).unwrap();
    let pod = &pods["items"][0]["metadata"];
    let (name, uid) = (pod["name"].as_str().unwrap(), pod["uid"].as_str().unwrap());
    lab.kubectl(&["logs", name]).unwrap();

    // A pod's token says which node it is on: agents are confined by that.
    let pod_name = format!("--bound-object-name={name}");
    let pod_uid = format!("--bound-object-uid={uid}");
    let token = lab
        .kubectl(&[
            "create",
            "token",
            "default",
            "--bound-object-kind=Pod",
            &pod_name,
            &pod_uid,
        ])
        .unwrap();
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(
        claims["kubernetes.io"]["node"]["name"],
        pods["items"][0]["spec"]["nodeName"]
    );

    let objects = lab
        .kubectl(&["get", "daemonset,service", "hello", "--output=json"])
        .unwrap();
    let judged = virga_lab::kstatus(&objects).unwrap();
    assert_eq!(judged.len(), 2);
    assert!(judged.iter().all(|object| object.status == "Current"), "{judged:?}");
}

#[test]
fn a_host_runs_guests_and_networks_and_survives_the_death_of_its_daemons() {
    let turn = Turn::take();
    let lab = turn.lab(1);
    let node = lab.node("node-1").unwrap();

    std::fs::write(lab.store_dir().join("network.xml"), NETWORK).unwrap();
    std::fs::write(lab.store_dir().join("domain.xml"), DOMAIN).unwrap();
    node.run(&["virsh", "net-create", "/var/lib/virga/store/network.xml"])
        .unwrap();
    node.run(&["virsh", "create", "/var/lib/virga/store/domain.xml"])
        .unwrap();
    let rules = node.run(&["iptables", "--table=nat", "--list-rules"]).unwrap();
    assert!(
        rules.contains("-s 192.168.77.0/24 ! -d 192.168.77.0/24 -j MASQUERADE"),
        "{rules}"
    );
    assert!(node.processes().unwrap().iter().any(|(_, name)| name == "dnsmasq"));
    assert!(node.libvirt_uri().contains("socket=/"));

    let guest = |node: &virga_lab::Node| {
        node.processes()
            .unwrap()
            .into_iter()
            .find(|(_, name)| name.starts_with("qemu"))
    };
    let before = guest(&node).unwrap();
    node.hold("libvirtd").unwrap();
    node.kill_process("libvirtd").unwrap();
    assert!(!node.exec(&["virsh", "list"]).unwrap().status.success());
    node.release("libvirtd").unwrap();
    eventually("libvirtd is back and knows its guest", || {
        let list = node
            .run(&["virsh", "list", "--name"])
            .map_err(|error| virga_lab::chain(&error))?;
        so(list.contains("small"), list)
    });
    assert_eq!(guest(&node), Some(before));

    node.kill_process("kubelet").unwrap();
    node.kill_process("containerd").unwrap();
    eventually("both are back", || {
        let names: Vec<String> = node.processes().unwrap().into_iter().map(|(_, name)| name).collect();
        so(
            ["kubelet", "containerd"]
                .iter()
                .all(|name| names.iter().any(|found| found == name)),
            format!("{names:?}"),
        )
    });
}

#[test]
fn a_node_loses_power_and_comes_back_and_so_does_the_apiserver() {
    let turn = Turn::take();
    let lab = turn.lab(2);
    lab.kubectl(&["create", "configmap", "kept", "--from-literal=a=b"])
        .unwrap();
    let node = lab.node("2").unwrap();
    eventually("the kubelet has said that it lives", || heartbeat(&lab, "node-2"));
    std::fs::write(node.file("/var/lib/virga/on-disk"), "").unwrap();
    std::fs::write(node.file("/run/in-memory"), "").unwrap();
    lab.kill_node("node-2").unwrap();
    assert!(!node.is_on());
    let last = heartbeat(&lab, "node-2").unwrap();
    assert!(
        lab.kill_node("node-2")
            .unwrap_err()
            .to_string()
            .contains("node-2 is not running")
    );

    // Meanwhile the control plane goes on, also after a crash.
    lab.restart_apiserver().unwrap();
    lab.kubectl(&["get", "configmap", "kept"]).unwrap();
    lab.boot_node("node-2").unwrap();
    assert!(node.file("/var/lib/virga/on-disk").exists());
    assert!(!node.file("/run/in-memory").exists());
    eventually("the kubelet is back", || {
        so(heartbeat(&lab, "node-2")? > last, "no heartbeat since its death")
    });
    lab.kubectl(&["wait", "node/node-2", "--for=condition=Ready", "--timeout=30s"])
        .unwrap();
    node.run(&["virsh", "list"]).unwrap();
}

#[test]
fn kstatus_judges_many_documents_and_the_items_of_a_list() {
    let judged = virga_lab::kstatus(include_str!("judged.yaml")).unwrap();
    let words: Vec<_> = judged
        .iter()
        .map(|object| (object.name.as_str(), object.status.as_str()))
        .collect();
    assert_eq!(
        words,
        [
            ("behind", "InProgress"),
            ("broken", "Failed"),
            ("plain", "Current"),
            ("going", "Terminating")
        ]
    );
    assert!(virga_lab::kstatus("---\n").is_err());
    assert!(virga_lab::kstatus("{").is_err());
}
