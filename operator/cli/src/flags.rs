//! What was asked for?

use std::path::PathBuf;

use crate::profile::RatioArgs;

/// The flags of `kubectl virga`.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "kubectl-virga",
    bin_name = "kubectl virga",
    version,
    about = "Why is an Instance where it is, where would others go, and how are they wired?"
)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Say where Instances would go, from manifests alone: no cluster is asked
    Simulate(SimulateArgs),
    /// Say why an Instance is where it is, or why it is nowhere
    Explain(ExplainArgs),
    /// Say how Instances are wired
    #[command(subcommand)]
    Net(NetCommand),
}

/// How to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

/// The flags of `simulate`.
#[derive(Debug, Clone, clap::Args)]
pub struct SimulateArgs {
    /// Manifests: files, directories with all below them, or - for standard input
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true, num_args = 1..)]
    pub filename: Vec<PathBuf>,

    /// The namespace of objects that name none
    #[arg(short, long, default_value = "default")]
    pub namespace: String,

    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,

    /// Draw how full each host is
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,

    /// A scheduler profile to use instead of the standard one; given twice, both are compared
    #[arg(long, value_name = "FILE")]
    pub profile: Vec<PathBuf>,

    /// Decides among hosts of equal weight
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// All Instances are created at once: those that are placed count as being built. Otherwise each is built before the
    /// next one comes
    #[arg(long)]
    pub burst: bool,

    /// Exit with status 3 when an Instance was refused
    #[arg(long)]
    pub fail_on_refused: bool,

    /// Ratios of hosts that say nothing
    #[command(flatten)]
    pub ratios: RatioArgs,
}

/// The flags of `explain`.
#[derive(Debug, Clone, clap::Args)]
pub struct ExplainArgs {
    /// The Instance
    pub instance: String,

    /// Only this host: why there, or why not
    pub host: Option<String>,

    /// Say also what every host would answer now
    #[arg(long)]
    pub now: bool,

    /// The Instance's namespace; that of the kubeconfig's context when absent
    #[arg(short, long)]
    pub namespace: Option<String>,

    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,

    /// The scheduler profile for what hosts would answer now; without it, the one that the controller uses
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,

    /// The namespace that Virga's own processes run in
    #[arg(long, value_name = "NAMESPACE", default_value = virga_crds::SYSTEM_NAMESPACE)]
    pub system_namespace: String,

    /// The port on which the leading controller tells its decisions: its --debug-address
    #[arg(long, value_name = "PORT", default_value_t = virga_controller::debug::PORT)]
    pub debug_port: u16,

    /// Which cluster to ask
    #[command(flatten)]
    pub cluster: ClusterArgs,

    /// Ratios of hosts that say nothing
    #[command(flatten)]
    pub ratios: RatioArgs,
}

/// Which cluster to ask.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ClusterArgs {
    /// The kubeconfig to use; without it, what kubectl would use
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig to use
    #[arg(long)]
    pub context: Option<String>,
}

/// What to say of networks.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum NetCommand {
    /// Draw the Networks, Routers, Ports and addresses of a Project
    Map(MapArgs),
    /// Say which way a packet goes, and which rule lets it pass or drops it; exits with 1 when it is dropped
    Trace(TraceArgs),
}

impl Command {
    /// The exit status when something went wrong. To `net trace` 1 is an answer.
    pub fn failure(&self) -> u8 {
        match self {
            Self::Net(NetCommand::Trace(_)) => 2,
            _ => 1,
        }
    }
}

/// What is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sent {
    /// The first packet of a connection
    Tcp,
    /// A datagram
    Udp,
    /// The first packet of an association
    Sctp,
    /// A ping
    #[default]
    Icmp,
}

/// The flags of `net trace`.
#[derive(Debug, Clone, clap::Args)]
pub struct TraceArgs {
    /// Who sends: an Instance, a Port, or an address; instance/NAME and port/NAME say which
    pub from: String,

    /// Whom it is for, likewise, or a LoadBalancer, also as loadbalancer/NAME
    pub to: String,

    /// What is sent
    #[arg(long, value_enum, default_value_t)]
    pub proto: Sent,

    /// The port that is spoken to
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..), required_if_eq_any([("proto", "tcp"), ("proto", "udp"), ("proto", "sctp")]))]
    pub port: Option<u16>,

    /// With IPv6, where both families are possible
    #[arg(short = '6', long)]
    pub ipv6: bool,

    /// The namespace; that of the kubeconfig's context when absent
    #[arg(short, long)]
    pub namespace: Option<String>,

    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,

    /// Which cluster to ask
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// The flags of `net map`.
#[derive(Debug, Clone, clap::Args)]
pub struct MapArgs {
    /// The Project; without it, the namespace of the kubeconfig's context
    pub project: Option<String>,

    /// The namespace, where it is no Project's
    #[arg(short, long, conflicts_with = "project")]
    pub namespace: Option<String>,

    /// How to print; programs are given all Ports
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,

    /// How many Ports of each Network are shown; the others are counted
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    pub ports: usize,

    /// Draw a picture too
    #[arg(long, value_name = "FILE.svg")]
    pub svg: Option<PathBuf>,

    /// Which cluster to ask
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[test]
    fn flags_are_those_of_kubectl_where_it_has_them() {
        Args::command().debug_assert();
        let args = Args::parse_from([
            "kubectl-virga",
            "simulate",
            "-f",
            "a.yaml",
            "b",
            "-o",
            "json",
            "-f",
            "c",
        ]);
        let Command::Simulate(args) = args.command else {
            panic!()
        };
        assert_eq!(args.filename, ["a.yaml", "b", "c"].map(PathBuf::from));
        assert_eq!(args.output, Output::Json);
        let args = Args::parse_from(["kubectl-virga", "explain", "web-1", "node-2", "-n", "shop"]);
        let Command::Explain(args) = args.command else { panic!() };
        assert_eq!(
            (args.host.as_deref(), args.namespace.as_deref()),
            (Some("node-2"), Some("shop"))
        );
        assert!(Args::try_parse_from(["kubectl-virga", "simulate"]).is_err());
        let args = Args::parse_from(["kubectl-virga", "net", "map", "shop", "--svg", "a.svg"]);
        let Command::Net(NetCommand::Map(args)) = args.command else {
            panic!()
        };
        assert_eq!((args.project.as_deref(), args.ports), (Some("shop"), 20));
        let trace = |args: &[&str]| Args::try_parse_from([&["kubectl-virga", "net", "trace", "a", "b"], args].concat());
        assert_eq!(trace(&[]).unwrap().command.failure(), 2, "a ping");
        assert!(trace(&["--proto", "tcp"]).is_err(), "to which port?");
        assert!(trace(&["--proto", "tcp", "--port", "0"]).is_err());
        assert!(trace(&["--proto", "udp", "--port", "53"]).is_ok());
    }
}
