//! A network of our own, for processes that the API server calls.
//!
//! A Service can't have an endpoint on the loopback interface, and the control plane is there. So the task runs itself again
//! in a network namespace with addresses for replicas of the controller. Nothing else is reached from there.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::{env, io};

use virga_lab::binaries;
use virga_lab::progress::Progress;

use super::Error;

/// Set in the namespace.
const INSIDE: &str = "VIRGA_XTASK_NETWORK";
/// The replicas' addresses, from the block for documentation (RFC 5737).
pub const REPLICAS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
const SET_UP: &str = r#"ip link set lo up
for address in $REPLICAS; do ip address add "$address/32" dev lo; done
exec "$0" "$@""#;

/// Whether this process is in such a network.
pub fn is_ours() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Runs this task again, with these arguments, in a network of its own, to its end.
pub fn run<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Result<(), Error> {
    // They are built from modules that can't be fetched from in there.
    let progress = Progress::start();
    for program in [binaries::controlplane(progress), binaries::helm(progress)] {
        program.map_err(virga_lab::ControlPlaneError::from)?;
    }
    let failed = |source| Error::Program {
        program: "unshare, which needs root".to_owned(),
        source,
    };
    let program = env::current_exe().map_err(failed)?;
    let status = Command::new("unshare")
        .args(["--net", "--", "sh", "-ec", SET_UP])
        .arg(program)
        .args(arguments)
        .env(INSIDE, "1")
        .env("REPLICAS", REPLICAS.map(|address| address.to_string()).join(" "))
        .stdin(Stdio::null())
        .status()
        .map_err(failed)?;
    if status.success() {
        Ok(())
    } else {
        Err(failed(io::Error::other(format!(
            "it ended with {status}; what it said is above"
        ))))
    }
}
