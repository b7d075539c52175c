//! How a lab is made.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use crate::binaries;
use crate::control_plane;
use crate::fabric::{self, Fabric};
use crate::images;
use crate::kubectl::{Administered, Kubectl};
use crate::lab::{ENDPOINTS, Error, Lab, NODES_READY, Options, io_error, lock, read_record};
use crate::layout::{Layout, MAX_NODES, NODE_DIRECTORIES, Record};
use crate::node::Node;
use crate::processes;
use crate::progress::Progress;
use crate::requirements;
use crate::teardown;
use crate::wait;

impl Lab {
    pub(crate) fn up_in(layout: Layout, options: Options) -> Result<Self, Error> {
        requirements::check_lab(options.ovn)?;
        if options.nodes > MAX_NODES {
            return Err(Error::TooMany { wanted: options.nodes });
        }
        if let Some(hidden_by) = layout.hidden_by() {
            return Err(Error::Hidden {
                folder: layout.root().to_owned(),
                hidden_by,
            });
        }
        let progress = Progress::start();
        let controlplane = binaries::controlplane(progress)?;
        let _lock = lock(&layout)?;
        if let Some(record) = read_record(&layout)? {
            if record.up && Fabric::find(&record.id).is_some() {
                if record.nodes != options.nodes {
                    return Err(Error::OtherSize {
                        found: record.nodes,
                        wanted: options.nodes,
                    });
                }
                if options.ovn && !record.ovn {
                    return Err(Error::NoOvn);
                }
                return Ok(Self { layout, record });
            }
            progress.step("removing what an earlier lab left");
            teardown::remove(&layout, &record)?;
        }
        if let Some(folder) = fabric::owner() {
            return Err(Error::Elsewhere { folder });
        }
        let mut lab = Self {
            record: Record {
                id: format!("{:032x}", fastrand::u128(..)),
                nodes: options.nodes,
                ovn: options.ovn,
                up: false,
                controlplane,
                made: missing_directories(options.nodes),
            },
            layout,
        };
        // The record is first: whatever happens after can be found and removed.
        lab.make_folder()?;
        lab.write_record()?;
        if let Err(error) = lab.build(progress) {
            // The logs' ends are in the error. A half-made lab is of no use, and the next `up` would remove it.
            teardown::remove(&lab.layout, &lab.record)?;
            return Err(error);
        }
        lab.record.up = true;
        lab.write_record()?;
        progress.step("the lab is up");
        Ok(lab)
    }

    fn build(&self, progress: Progress) -> Result<(), Error> {
        progress.step("network");
        for directory in &self.record.made {
            fs::create_dir_all(directory).map_err(|source| io_error(directory, source))?;
        }
        let nodes: Vec<String> = self.nodes().iter().map(Node::name).collect();
        let authority = control_plane::prepare(&self.layout, &self.record.controlplane, &ENDPOINTS, &nodes)?;
        let fabric = Fabric::build(&self.layout, &self.record.id)?;
        if self.record.ovn {
            progress.step("OVN's databases, ovn-northd, the outside network");
            self.ovn()?.build(&authority)?;
        }
        if nodes.is_empty() {
            self.start_control_plane(fabric, progress)?;
            return self.wait_for_ovn(&nodes, progress);
        }
        // Both at once: their time is mostly waiting, and kubelets ask until the apiserver answers.
        let (control_plane, booted) = thread::scope(|scope| {
            let control_plane = scope.spawn(|| self.start_control_plane(fabric, progress));
            let ovn = if self.record.ovn { ", OVS, ovn-controller" } else { "" };
            progress.step(&format!(
                "libvirt, containerd, kubelet, kube-proxy{ovn} on {}",
                nodes.join(", ")
            ));
            let booted = self.boot_all(fabric, progress);
            (control_plane.join().unwrap_or(Ok(())), booted)
        });
        control_plane?;
        booted?;
        progress.step("waiting for the nodes");
        self.wait_until_nodes_are_ready(&nodes, progress)?;
        self.wait_for_ovn(&nodes, progress)
    }

    fn wait_for_ovn(&self, nodes: &[String], progress: Progress) -> Result<(), Error> {
        if !self.record.ovn {
            return Ok(());
        }
        progress.step("waiting for OVN");
        Ok(self.ovn()?.wait_until_ready(nodes, progress)?)
    }

    fn start_control_plane(&self, fabric: Fabric, progress: Progress) -> Result<(), Error> {
        progress.step("etcd, apiserver, controller manager, scheduler");
        control_plane::start(
            &self.processes(),
            &Kubectl::of(&self.layout),
            &self.layout,
            progress,
            |process| self.start(process, fabric),
            |process| !processes::named(&self.record.id, process.name).is_empty(),
        )?;
        progress.step("the control plane answers");
        Ok(())
    }

    fn boot_all(&self, fabric: Fabric, progress: Progress) -> Result<(), Error> {
        self.prepare_nodes(progress)?;
        self.on_all_nodes(|node| {
            node.install()?;
            node.boot(fabric, progress)
        })
    }

    fn make_folder(&self) -> Result<(), Error> {
        let root = self.layout.root();
        fs::create_dir_all(root).map_err(|source| io_error(root, source))
    }

    fn write_record(&self) -> Result<(), Error> {
        self.layout
            .write_record(&self.record)
            .map_err(|source| io_error(&self.layout.record(), source))
    }

    /// What all nodes share.
    fn prepare_nodes(&self, progress: Progress) -> Result<(), Error> {
        for folder in [self.layout.images(), self.layout.shared(), self.layout.store()] {
            fs::create_dir_all(&folder).map_err(|source| io_error(&folder, source))?;
        }
        let mut hosts = "127.0.0.1 localhost\n".to_owned();
        for node in self.nodes() {
            let _ = writeln!(hosts, "{} {}", node.address(), node.name());
        }
        images::pause(&self.layout.images().join("pause.tar"), progress)?;
        let root = self.layout.root();
        for (path, content) in [(root.join("hosts"), hosts.as_str()), (root.join("resolv.conf"), "")] {
            fs::write(&path, content).map_err(|source| io_error(&path, source))?;
        }
        Ok(())
    }

    fn wait_until_nodes_are_ready(&self, nodes: &[String], progress: Progress) -> Result<(), Error> {
        let mut late = nodes.to_vec();
        let template =
            "{range .items[*]}{.metadata.name}{range .status.conditions[?(@.type==\"Ready\")]} {.status}{end}\n{end}";
        let output = format!("--output=jsonpath={template}");
        let mut reminder = progress.reminder("waiting for the nodes");
        let ready = wait::until_true(NODES_READY, || {
            reminder.tick();
            let list = self.kubectl(&["get", "nodes", &output]).unwrap_or_default();
            late.retain(|node| !list.lines().any(|line| line == format!("{node} True")));
            late.is_empty()
        });
        if ready {
            return Ok(());
        }
        let first = nodes
            .iter()
            .position(|node| late.first() == Some(node))
            .unwrap_or_default();
        let log = self
            .nodes()
            .get(first)
            .map(|node| node.file("/var/log/kubelet.log"))
            .unwrap_or_default();
        Err(Error::NotReady {
            nodes: late,
            log: control_plane::log_tail(&log),
        })
    }
}

/// What has to be made so that nodes can mount over it.
fn missing_directories(nodes: u8) -> Vec<PathBuf> {
    let wanted: &[&str] = if nodes == 0 { &[] } else { &NODE_DIRECTORIES };
    let mut missing: Vec<PathBuf> = Vec::new();
    for directory in wanted {
        let absent: Vec<_> = Path::new(directory)
            .ancestors()
            .take_while(|path| !path.exists())
            .collect();
        missing.extend(absent.into_iter().rev().map(Path::to_owned));
    }
    missing.dedup();
    missing
}
