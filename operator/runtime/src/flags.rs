//! Which flags does every process take?

use std::{net::SocketAddr, path::PathBuf};

use crate::telemetry::Format;

/// Flags of every process. Flatten it into the process's own arguments and destructure both, so that an unused flag does
/// not compile.
#[derive(Debug, Clone, clap::Args)]
pub struct CommonArgs {
    /// The form of log lines
    #[arg(long, env = "VIRGA_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: Format,

    /// What to log, such as `info` or `info,virga_agent=debug`
    #[arg(long, env = "VIRGA_LOG_LEVEL", default_value = "info")]
    pub log_level: String,

    /// The kubeconfig to use; without it, the pod's service account, or else what kubectl would use
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,

    /// Where to serve `/metrics`
    #[arg(long, env = "VIRGA_METRICS_ADDRESS", default_value = "[::]:9090")]
    pub metrics_address: SocketAddr,

    /// Where to serve `/healthz` and `/readyz`
    #[arg(long, env = "VIRGA_HEALTH_ADDRESS", default_value = "[::]:8081")]
    pub health_address: SocketAddr,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Args {
        #[command(flatten)]
        common: CommonArgs,
    }

    #[test]
    fn flags_parse_with_their_defaults() {
        let Args { common } = Args::parse_from(["virga", "--log-format", "json", "--health-address", "127.0.0.1:1"]);
        assert_eq!(common.log_format, Format::Json);
        assert_eq!(common.log_level, "info");
        assert_eq!(common.health_address.port(), 1);
        assert_eq!(common.metrics_address.port(), 9090);
    }
}
