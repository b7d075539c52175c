//! Where the lab keeps what, and what it writes down about itself.

use std::env;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The variable that moves the lab's folder.
pub const FOLDER_VARIABLE: &str = "VIRGA_LAB_DIR";

/// The lab's folder when the variable is not set.
const DEFAULT_FOLDER: &str = "/var/lib/virga-lab";

/// The most nodes one lab can have; their addresses are 172.31.0.1 and up.
pub const MAX_NODES: u8 = 32;

/// Directories that each node has for itself, mounted over the machine's; all else it sees as the machine has it.
/// `/run` is emptied at each boot, the others are the node's disk.
pub const NODE_DIRECTORIES: [&str; 13] = [
    "/etc/libvirt",
    "/etc/openvswitch",
    "/etc/ovn",
    "/run",
    "/var/cache/libvirt",
    "/var/lib/cni",
    "/var/lib/dnsmasq",
    "/var/lib/kubelet",
    "/var/lib/libvirt",
    "/var/lib/openvswitch",
    "/var/lib/ovn",
    "/var/lib/virga",
    "/var/log",
];

/// What the lab writes down, `lab.json` in its folder: first of all files, and last to be removed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Random; the mark of the lab's processes.
    pub id: String,
    /// How many nodes it has; 0 is a control plane only.
    pub nodes: u8,
    /// Whether it has OVN.
    #[serde(default)]
    pub ovn: bool,
    /// Whether `up` came to its end.
    pub up: bool,
    /// The multi-call program of the control plane, in the cache folder.
    pub controlplane: PathBuf,
    /// Directories of the machine that were made to mount something over, innermost last.
    pub made: Vec<PathBuf>,
}

/// The paths of one lab.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The lab's folder by the environment.
    pub fn from_environment() -> Self {
        let set = env::var_os(FOLDER_VARIABLE).filter(|value| !value.is_empty());
        Self::at(set.map_or_else(|| PathBuf::from(DEFAULT_FOLDER), PathBuf::from))
    }

    /// The lab in this folder.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the folder would disappear below a node's own directories; then which.
    pub fn hidden_by(&self) -> Option<&'static str> {
        NODE_DIRECTORIES
            .into_iter()
            .find(|directory| self.root.starts_with(directory))
    }

    /// The record of the lab.
    pub fn record(&self) -> PathBuf {
        self.root.join("lab.json")
    }

    /// Keys and certificates.
    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    /// Links to the multi-call program by the names of its processes.
    pub fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// The kubeconfig of a client of the apiserver.
    pub fn kubeconfig(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.kubeconfig"))
    }

    /// etcd's data.
    pub fn etcd(&self) -> PathBuf {
        self.root.join("etcd")
    }

    /// OVN's databases and control sockets.
    pub fn ovn(&self) -> PathBuf {
        self.root.join("ovn")
    }

    /// The log of a process of the control plane, or of a node's start.
    pub fn log(&self, name: &str) -> PathBuf {
        self.root.join("log").join(format!("{name}.log"))
    }

    /// Image archives that every node loads at its first boot.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// What all nodes see as `/var/lib/virga/shared`.
    pub fn shared(&self) -> PathBuf {
        self.root.join("shared")
    }

    /// What all nodes see as `/var/lib/virga/store`.
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// Everything of one node.
    pub fn node(&self, number: u8) -> PathBuf {
        self.root.join(node_name(number))
    }

    /// A path of a node's own directories as the machine sees it.
    pub fn node_file(&self, number: u8, path: &str) -> PathBuf {
        self.node(number).join("fs").join(path.trim_start_matches('/'))
    }

    /// Reads the record; `None` where no lab is.
    pub fn read_record(&self) -> io::Result<Option<Record>> {
        match fs::read(self.record()) {
            Ok(content) => Ok(Some(serde_json::from_slice(&content)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the record in one step.
    pub fn write_record(&self, record: &Record) -> io::Result<()> {
        let unfinished = self.root.join("lab.json.new");
        fs::write(&unfinished, serde_json::to_vec_pretty(record)?)?;
        fs::rename(unfinished, self.record())
    }
}

/// `node-1` and so on.
pub fn node_name(number: u8) -> String {
    format!("node-{number}")
}

/// The address of a node in the lab's network, 172.31.0.0/24.
pub fn node_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 31, 0, number)
}

/// The addresses of a node's pods.
pub fn pod_network(number: u8) -> String {
    format!("10.244.{number}.0/24")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_below_a_nodes_own_directory_is_noticed() {
        assert_eq!(Layout::at("/run/lab".into()).hidden_by(), Some("/run"));
        assert_eq!(Layout::at("/var/lib/virga-lab".into()).hidden_by(), None);
    }

    #[test]
    fn a_record_comes_back_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::at(folder.path().to_owned());
        assert!(layout.read_record().unwrap().is_none());
        let record = Record {
            id: "a".into(),
            nodes: 3,
            ovn: true,
            up: true,
            controlplane: "/c".into(),
            made: vec!["/var/lib/cni".into()],
        };
        layout.write_record(&record).unwrap();
        assert_eq!(
            format!("{:?}", layout.read_record().unwrap().unwrap()),
            format!("{record:?}")
        );
    }
}
