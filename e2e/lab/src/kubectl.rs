//! kubectl, Helm and kstatus on one cluster.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::binaries;
use crate::command;
use crate::layout::Layout;
use crate::progress::Progress;

/// How long a kubectl may run; one that waits has a `--timeout` of its own, below this.
const KUBECTL: Duration = Duration::from_mins(5);

/// How long a Helm may run.
const HELM: Duration = Duration::from_mins(10);

/// A question or change to a cluster failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program could not be run, or failed.
    #[error(transparent)]
    Command(#[from] command::Error),
    /// The program could not be built.
    #[error(transparent)]
    Binaries(#[from] binaries::Error),
    /// kstatus said something that is not a judgement.
    #[error("kstatus answered {line:?}, which is not: kind namespace/name status message")]
    Judgement {
        /// What it said.
        line: String,
    },
}

/// The programs that an administrator uses on a cluster.
#[derive(Debug, Clone)]
pub struct Kubectl {
    /// kubectl itself.
    pub program: PathBuf,
    /// Whom it talks to, and as whom.
    pub kubeconfig: PathBuf,
}

/// An object judged by kstatus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectStatus {
    /// The object's kind.
    pub kind: String,
    /// Its namespace; empty for what has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `Current`, `InProgress`, `Failed`, `Terminating`, `NotFound` or `Unknown`.
    pub status: String,
    /// Why.
    pub message: String,
}

/// A cluster that its administrator asks: a [`Lab`](crate::Lab) or a [`ControlPlane`](crate::ControlPlane).
pub trait Administered {
    /// Why it could not be asked.
    type Error: From<Error>;

    /// Where its files are.
    #[doc(hidden)]
    fn layout(&self) -> &Layout;

    /// The administrator's kubeconfig; it needs no other file and works from the machine.
    fn kubeconfig(&self) -> PathBuf {
        Kubectl::of(self.layout()).kubeconfig
    }

    /// The folder with its kubectl.
    fn bin(&self) -> PathBuf {
        self.layout().bin()
    }

    /// Runs kubectl as administrator; returns what it printed.
    fn kubectl(&self, args: &[&str]) -> Result<String, Self::Error> {
        Ok(Kubectl::of(self.layout()).run(args)?)
    }

    /// [`Administered::kubectl`] with something on standard input, for `--filename=-`.
    fn kubectl_with_input(&self, args: &[&str], input: &str) -> Result<String, Self::Error> {
        Ok(Kubectl::of(self.layout()).run_with_input(args, input)?)
    }

    /// Runs Helm as administrator; returns what it printed. Helm is built at its first use.
    fn helm(&self, args: &[&str]) -> Result<String, Self::Error> {
        Ok(Kubectl::of(self.layout()).helm(args)?)
    }
}

impl Kubectl {
    /// The administrator's, on the cluster whose files are there.
    pub fn of(layout: &Layout) -> Self {
        Self {
            program: layout.bin().join("kubectl"),
            kubeconfig: layout.kubeconfig("admin"),
        }
    }

    /// Runs kubectl as the cluster's administrator; returns what it printed.
    pub fn run(&self, args: &[&str]) -> Result<String, Error> {
        self.run_with_input(args, "")
    }

    /// [`Kubectl::run`] with something on standard input, for `--filename=-`.
    pub fn run_with_input(&self, args: &[&str], input: &str) -> Result<String, Error> {
        let mut command = Command::new(&self.program);
        command.args(args).env("KUBECONFIG", &self.kubeconfig);
        Ok(command::run_with_input(&mut command, input, KUBECTL)?)
    }

    /// Runs Helm, which is built at its first use.
    pub fn helm(&self, args: &[&str]) -> Result<String, Error> {
        let mut command = Command::new(binaries::helm(Progress::start())?);
        command.args(args).env("KUBECONFIG", &self.kubeconfig);
        Ok(command::run(&mut command, HELM)?)
    }
}

/// Judges objects (YAML or JSON, one or many, a List counts as its items) by the rules of kstatus.
pub fn kstatus(objects: &str) -> Result<Vec<ObjectStatus>, Error> {
    let mut command = Command::new(binaries::kstatus(Progress::start())?);
    let text = command::run_with_input(&mut command, objects, command::SHORT)?;
    text.lines()
        .map(|line| parse(line).ok_or_else(|| Error::Judgement { line: line.to_owned() }))
        .collect()
}

fn parse(line: &str) -> Option<ObjectStatus> {
    let mut words = line.splitn(4, ' ');
    let kind = words.next()?.to_owned();
    let (namespace, name) = words.next()?.split_once('/')?;
    let status = words.next()?.to_owned();
    let message = words.next().unwrap_or_default().to_owned();
    Some(ObjectStatus {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        status,
        message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judgement_without_namespace_or_message_is_read() {
        let object = parse("Namespace /shop Current ").unwrap();
        assert_eq!((object.namespace.as_str(), object.name.as_str()), ("", "shop"));
        assert_eq!((object.status.as_str(), object.message.as_str()), ("Current", ""));
        assert!(parse("nonsense").is_none());
    }
}
