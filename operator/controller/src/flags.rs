//! Which flags does the controller take?

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use virga_core::network::Backend;
use virga_ovsdb::{
    northbound,
    remote::Remote,
    southbound,
    tls::{ServerCheck, TlsFiles},
};
use virga_runtime::flags::CommonArgs;
use virga_scheduler::Ratio;

use crate::ovn::{self, Carrier};

/// The controller's flags. Destructured in `run`, so that a flag that nobody reads does not compile.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "virga-controller",
    version,
    about = "The controller of Virga: reconcilers, admission, scheduling"
)]
pub struct Args {
    /// What every process takes
    #[command(flatten)]
    pub common: CommonArgs,

    /// The namespace that the controller runs in
    #[arg(long, env = "POD_NAMESPACE", default_value = virga_crds::SYSTEM_NAMESPACE)]
    pub namespace: String,

    /// The name of this process's Pod; without it no Pod is labelled
    #[arg(long, env = "POD_NAME")]
    pub pod_name: Option<String>,

    /// The Service that selects every replica
    #[arg(long, env = "VIRGA_SERVICE_NAME", default_value = "virga-webhook")]
    pub service_name: String,

    /// The Service that selects the leader only, for the scheduling webhook
    #[arg(long, env = "VIRGA_LEADER_SERVICE_NAME", default_value = "virga-webhook-leader")]
    pub leader_service_name: String,

    /// The ValidatingWebhookConfiguration and MutatingWebhookConfiguration that call these Services
    #[arg(long, env = "VIRGA_WEBHOOK_CONFIGURATION", default_value = "virga")]
    pub webhook_configuration: String,

    /// Where to serve the webhooks, over HTTPS
    #[arg(long, env = "VIRGA_WEBHOOK_ADDRESS", default_value = "[::]:8443")]
    pub webhook_address: SocketAddr,

    /// The service account of the controller, in its namespace: the only one that may bind Instances and Volumes
    #[arg(long, env = "VIRGA_SERVICE_ACCOUNT", default_value = "virga-controller")]
    pub service_account: String,

    /// The service account of the agents, in the controller's namespace: the only one that may read user data
    #[arg(long, env = "VIRGA_AGENT_SERVICE_ACCOUNT", default_value = "virga-agent")]
    pub agent_service_account: String,

    /// How many times over the CPUs of a host are promised, unless its Hypervisor says otherwise
    #[arg(long, env = "VIRGA_CPU_ALLOCATION_RATIO", default_value = "4.0")]
    pub cpu_allocation_ratio: Ratio,

    /// How many times over the memory of a host is promised, unless its Hypervisor says otherwise
    #[arg(long, env = "VIRGA_RAM_ALLOCATION_RATIO", default_value = "1.0")]
    pub ram_allocation_ratio: Ratio,

    /// How many times over the disk of a host is promised, unless its Hypervisor says otherwise
    #[arg(long, env = "VIRGA_DISK_ALLOCATION_RATIO", default_value = "1.0")]
    pub disk_allocation_ratio: Ratio,

    /// A file with the scheduler's profile, in YAML; followed when it changes
    #[arg(long, env = "VIRGA_SCHEDULER_PROFILE")]
    pub scheduler_profile: Option<PathBuf>,

    /// Where to serve the scheduler's last decisions, over plain HTTP: a loopback address; empty to serve nothing
    #[arg(long, env = "VIRGA_DEBUG_ADDRESS", default_value = "127.0.0.1:9091")]
    pub debug_address: DebugAddress,

    /// What carries the networks
    #[command(flatten)]
    pub network: NetworkArgs,
}

/// What carries the networks.
#[derive(Debug, Clone, clap::Args)]
pub struct NetworkArgs {
    /// What carries the networks; as the agents' flag
    #[arg(long, env = "VIRGA_NETWORK_BACKEND", value_enum, default_value = "libvirt")]
    pub network_backend: NetworkBackendFlag,

    /// The largest packet between the hosts, in bytes, for OVN's tunnels; as the agents' flag
    #[arg(long, env = "VIRGA_UNDERLAY_MTU", default_value_t = 1500, value_parser = clap::value_parser!(u16).range(1280..=9216))]
    pub underlay_mtu: u16,

    /// OVN's north-bound database, as OVN writes it: tcp:HOST:PORT, ssl:HOST:PORT; of a cluster all members, with commas
    #[arg(long, env = "VIRGA_OVN_NORTHBOUND", value_delimiter = ',')]
    pub ovn_northbound: Vec<Remote>,

    /// OVN's south-bound database, which says which hosts can be gateways; as the north-bound one. Without it no Router
    /// leads outside
    #[arg(long, env = "VIRGA_OVN_SOUTHBOUND", value_delimiter = ',')]
    pub ovn_southbound: Vec<Remote>,

    /// What this installation calls its rows in the database; no two that share one may have the same
    #[arg(long, env = "VIRGA_OVN_OWNER", default_value = "virga")]
    pub ovn_owner: String,

    /// For ssl: the folder with ca.crt, tls.crt and tls.key
    #[arg(long, env = "VIRGA_OVN_TLS")]
    pub ovn_tls: Option<PathBuf>,

    /// For ssl: whether the server's certificate must be for the host that was asked. What ovs-pki makes is for none
    #[arg(long, env = "VIRGA_OVN_TLS_CHECK", value_enum, default_value = "name")]
    pub ovn_tls_check: TlsCheckFlag,
}

/// What carries the networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum NetworkBackendFlag {
    /// libvirt's own networks, one on each host.
    Libvirt,
    /// OVN, from host to host.
    Ovn,
}

/// What of the database's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TlsCheckFlag {
    /// The authority, and the host's name or address.
    Name,
    /// The authority.
    Authority,
}

/// What is missing of what carries the networks.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// OVN, and nowhere to tell it.
    #[error("--network-backend=ovn needs --ovn-northbound: where OVN's north-bound database is served")]
    NoNorthbound,
    /// TLS without certificates.
    #[error(
        "--ovn-northbound or --ovn-southbound has {0}, which needs --ovn-tls: the folder with ca.crt, tls.crt and tls.key"
    )]
    NoCertificates(Remote),
}

impl NetworkArgs {
    /// What carries the networks, if it is said in full.
    pub fn carrier(self) -> Result<Carrier, NetworkError> {
        let underlay_mtu = self.underlay_mtu;
        if self.network_backend == NetworkBackendFlag::Libvirt {
            return Ok(Carrier::default());
        }
        if self.ovn_northbound.is_empty() {
            return Err(NetworkError::NoNorthbound);
        }
        let secret = self
            .ovn_northbound
            .iter()
            .chain(&self.ovn_southbound)
            .find(|remote| matches!(remote, Remote::Ssl { .. }));
        if let (Some(remote), None) = (secret, &self.ovn_tls) {
            return Err(NetworkError::NoCertificates(remote.clone()));
        }
        let tls = self.ovn_tls.map(|folder| TlsFiles {
            authorities: folder.join("ca.crt"),
            certificate: folder.join("tls.crt"),
            key: folder.join("tls.key"),
            check: match self.ovn_tls_check {
                TlsCheckFlag::Name => ServerCheck::Name,
                TlsCheckFlag::Authority => ServerCheck::Authority,
            },
        });
        let options = |remotes, database: &str, tables| {
            let mut options = virga_ovsdb::Options::new(remotes, database, tables);
            options.tls.clone_from(&tls);
            options
        };
        let client = options(self.ovn_northbound, northbound::DATABASE, northbound::TABLES.to_vec());
        let southbound = (!self.ovn_southbound.is_empty()).then(|| {
            let options = options(self.ovn_southbound, southbound::DATABASE, southbound::TABLES.to_vec());
            // Any member may answer: nothing is written.
            virga_ovsdb::Options {
                leader_only: false,
                ..options
            }
        });
        let settings = ovn::Settings {
            client,
            southbound,
            owner: self.ovn_owner,
        };
        Ok(Carrier {
            backend: Backend::Ovn { underlay_mtu },
            northbound: Some(settings),
        })
    }
}

/// Where the process itself can be asked, if anywhere. Nobody is asked who he is there, so it is a loopback address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebugAddress(pub Option<SocketAddr>);

/// Why it is no such address.
#[derive(Debug, thiserror::Error)]
pub enum NotLoopback {
    /// It is none at all.
    #[error("not an address with a port: {0:?}")]
    Parse(String),
    /// Others could reach it.
    #[error("{0} is no loopback address: anybody could read what is served there")]
    Open(SocketAddr),
}

impl FromStr for DebugAddress {
    type Err = NotLoopback;

    fn from_str(text: &str) -> Result<Self, NotLoopback> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let address: SocketAddr = text.parse().map_err(|_| NotLoopback::Parse(text.to_owned()))?;
        if !address.ip().is_loopback() {
            return Err(NotLoopback::Open(address));
        }
        Ok(Self(Some(address)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn the_defaults_are_those_of_the_chart() {
        let args = Args::parse_from(["virga-controller"]);
        assert_eq!(args.namespace, "virga-system");
        assert_eq!(args.service_name, "virga-webhook");
        assert_eq!(args.cpu_allocation_ratio, Ratio::FOUR);
        assert_eq!(args.ram_allocation_ratio, Ratio::ONE);
        assert_eq!(args.webhook_address.port(), 8443);
        assert_eq!(
            args.debug_address.0.map(|address| address.port()),
            Some(crate::debug::PORT)
        );
    }

    #[test]
    fn decisions_are_served_on_a_loopback_address_or_not_at_all() {
        let of = |address: &str| Args::try_parse_from(["virga-controller", "--debug-address", address]);
        assert_eq!(of("").unwrap().debug_address, DebugAddress(None));
        assert!(of("[::1]:9091").unwrap().debug_address.0.is_some());
        let error = of("0.0.0.0:9091").unwrap_err().to_string();
        assert!(error.contains("no loopback address"), "{error}");
        assert!(of("localhost").is_err());
    }

    #[test]
    fn ovn_needs_to_be_told_where_it_is_and_how_to_be_trusted() {
        let of = |more: &[&str]| {
            let args = ["virga-controller", "--network-backend=ovn"].iter().chain(more);
            Args::try_parse_from(args).unwrap().network.carrier()
        };
        assert_eq!(of(&[]).unwrap_err(), NetworkError::NoNorthbound);
        let error = of(&["--ovn-northbound=tcp:10.0.0.1:6641,ssl:nb.example.org:6641"]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("ssl:nb.example.org:6641, which needs --ovn-tls"),
            "{error}"
        );
        let carrier = of(&["--ovn-northbound=ssl:[fd00::1]:6641", "--ovn-tls=/etc/virga/ovn"]).unwrap();
        assert_eq!(carrier.backend, Backend::Ovn { underlay_mtu: 1500 });
        let told = carrier.northbound.unwrap();
        assert!(told.client.tls.is_some() && told.southbound.is_none());
        let both = [
            "--ovn-northbound=tcp:10.0.0.1:6641",
            "--ovn-southbound=tcp:10.0.0.1:6642",
        ];
        let southbound = of(&both).unwrap().northbound.unwrap().southbound.unwrap();
        assert_eq!(southbound.database, "OVN_Southbound");
        assert!(Args::try_parse_from(["virga-controller", "--ovn-northbound=nb:6641"]).is_err());
        let default = Args::parse_from(["virga-controller"]).network.carrier().unwrap();
        assert_eq!(default.backend, Backend::Libvirt);
    }

    #[test]
    fn a_ratio_that_is_none_is_refused_with_the_reason() {
        let error = Args::try_parse_from(["virga-controller", "--cpu-allocation-ratio", "much"]).unwrap_err();
        assert!(error.to_string().contains("not a decimal number"), "{error}");
    }
}
