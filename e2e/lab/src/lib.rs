//! A real Kubernetes with libvirt on one machine, for tests and the demo.
//!
//! [`Lab`] is a cluster: etcd, apiserver, controller manager and scheduler, and nodes that are hosts with libvirt,
//! containerd, kubelet and kube-proxy, each in namespaces of its own. There is one a machine; it needs root.
//! [`ControlPlane`] is an apiserver with etcd and the controller manager on the loopback interface, for tests that need
//! the real API but no node. There can be many, and each is gone when its value is dropped.
//!
//! All programs are built from Go modules at the first use, see [`binaries`].

mod archive;
pub mod binaries;
mod cgroups;
mod command;
mod control_plane;
mod fabric;
pub mod images;
mod kubectl;
mod lab;
mod layout;
mod node;
mod ovn;
mod pki;
mod processes;
pub mod progress;
mod requirements;
mod standalone;
mod teardown;
mod up;
mod wait;

pub use command::Output;
pub use kubectl::{Administered, ObjectStatus, kstatus};
pub use lab::{Error, Lab, Options};
pub use layout::FOLDER_VARIABLE;
pub use node::{Error as NodeError, Node};
pub use ovn::{Daemon as OvnDaemon, Error as OvnError, Ovn};
pub use standalone::{ControlPlane, Error as ControlPlaneError};

/// An error with its causes on one line: each error of this crate says only what it was doing itself.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
