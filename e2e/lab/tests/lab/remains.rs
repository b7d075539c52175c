//! A lab leaves nothing, however its maker ended.

use std::env;
use std::process::{Child, Command, Stdio};

use virga_lab::{Administered, Lab, Options};

use crate::support::{Turn, eventually, so};

/// Not a test: what the next one runs in a process of its own, to kill it.
#[test]
#[ignore = "run by another test"]
fn make_a_lab_for_another_test() {
    Lab::up(Options { nodes: 1, ovn: true }).unwrap();
}

fn maker() -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "remains::make_a_lab_for_another_test"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn wait_for(turn: &Turn, process: &str) {
    eventually("the maker got that far", || {
        let names = turn.note();
        so(
            names.iter().any(|name| name == process),
            format!("no {process} among {names:?}"),
        )
    });
}

#[test]
fn a_lab_whose_maker_was_killed_half_way_is_removed_or_made_again() {
    let turn = Turn::take();
    // From the first process to the last.
    for reached in [
        "sleep",
        "ovn-northd",
        "kube-apiserver",
        "ovs-vswitchd",
        "libvirtd",
        "kubelet",
    ] {
        let mut maker = maker();
        wait_for(&turn, reached);
        maker.kill().unwrap();
        maker.wait().unwrap();
        assert!(
            Lab::attach().is_err(),
            "killed at {reached}, and taken for a lab that is up"
        );
        assert!(Lab::down().unwrap(), "killed at {reached}, and not known");
        turn.assert_nothing_left();
    }
    let mut maker = maker();
    wait_for(&turn, "kubelet");
    maker.kill().unwrap();
    maker.wait().unwrap();
    turn.lab(1).kubectl(&["get", "node", "node-1"]).unwrap();
}

#[test]
fn a_running_lab_is_used_again_and_one_that_lacks_something_is_refused() {
    let turn = Turn::take();
    let lab = turn.lab(0);
    let marker = ["create", "configmap", "marker"];
    lab.kubectl(&marker).unwrap();
    turn.lab(0).kubectl(&["get", "configmap", "marker"]).unwrap();
    Lab::attach().unwrap().kubectl(&["get", "configmap", "marker"]).unwrap();
    for (nodes, ovn) in [(2, false), (0, true)] {
        let error = Lab::up(Options { nodes, ovn }).unwrap_err();
        assert!(error.to_string().contains("cargo xtask lab down"), "{error}");
    }
    assert!(Lab::down().unwrap());
    assert!(!Lab::down().unwrap());
    assert!(Lab::attach().unwrap_err().to_string().contains("cargo xtask lab up"));
}
