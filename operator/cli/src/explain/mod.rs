//! Why is this Instance there, or nowhere? First what was decided, by whoever remembers it; then, when asked for, what
//! would be decided now.

mod leader;
mod now;
mod read;
mod recorded;
mod report;
mod rules;

use std::io::{self, Write};

use kube::Client;
use serde::Serialize;
use virga_controller::scheduling::HostDefaults;
use virga_crds::{Condition, conditions::types};

pub use now::{Now, Said, Takes};
pub use recorded::{Found, Record};
use report::Hosts;

use crate::{
    cluster,
    flags::{ExplainArgs, Output},
    profile,
};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The profile can't be used.
    #[error(transparent)]
    Profile(#[from] profile::Error),
    /// The cluster can't be read.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// There is no such host.
    #[error("asking for {0:?}: there is no such Hypervisor{1}")]
    NoHost(String, String),
    /// The answer can't be printed.
    #[error("printing")]
    Print(#[from] io::Error),
}

/// The answer.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// The Instance's namespace.
    pub namespace: String,
    /// The Instance's name.
    pub name: String,
    /// Its Flavor.
    pub flavor: String,
    /// The host that it is bound to.
    pub host: Option<String>,
    /// What its status says of that.
    pub scheduled: Option<Condition>,
    /// What was decided.
    #[serde(flatten)]
    pub found: Found,
    /// What would be decided now, if that was asked for or nobody knows what was decided.
    #[serde(flatten)]
    pub now: Option<Now>,
}

/// Where Virga's own processes are.
#[derive(Debug, Clone)]
pub struct System {
    /// Their namespace.
    pub namespace: String,
    /// The port on which the leader tells its decisions.
    pub port: u16,
}

/// What is to be explained.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The Instance's namespace.
    pub namespace: &'a str,
    /// The Instance's name.
    pub name: &'a str,
    /// Whether hosts are asked anew although it is known what was decided.
    pub now: bool,
    /// Whom to ask what was decided.
    pub system: &'a System,
    /// By which rules hosts are asked; those of the release when absent.
    pub profile: Option<&'a profile::Named>,
    /// Ratios of hosts that say nothing.
    pub defaults: HostDefaults,
}

/// Does what the flags say.
pub async fn run(args: ExplainArgs, out: &mut dyn Write) -> Result<(), Error> {
    let ExplainArgs {
        instance,
        host,
        now,
        namespace,
        output,
        profile,
        system_namespace,
        debug_port,
        cluster,
        ratios,
    } = args;
    let profile = profile.map(|path| profile::read(&path)).transpose()?;
    let client = cluster::connect(cluster).await?;
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let system = System {
        namespace: system_namespace,
        port: debug_port,
    };
    let question = Question {
        namespace: &namespace,
        name: &instance,
        // Programs are told both.
        now: now || host.is_some() || output == Output::Json,
        system: &system,
        profile: profile.as_ref(),
        defaults: ratios.into(),
    };
    let explained = explain(&client, &question).await?;
    print(explained, host.as_deref(), output, out)
}

/// Prints the answer, or what one host says.
pub fn print(mut explained: Explained, host: Option<&str>, output: Output, out: &mut dyn Write) -> Result<(), Error> {
    let at = match (&explained.now, host) {
        (Some(now), Some(host)) => now.find(host)?,
        _ => None,
    };
    match output {
        Output::Table => {
            let hosts = match (host, at) {
                (None, _) => Hosts::All,
                (Some(_), Some(at)) => Hosts::One(at),
                (Some(_), None) => Hosts::None,
            };
            report::report(&explained, hosts, out)?;
        }
        Output::Json => {
            if let (Some(now), Some(at)) = (&mut explained.now, at) {
                now.hosts = vec![now.hosts.swap_remove(at)];
            }
            serde_json::to_writer_pretty(&mut *out, &explained).map_err(io::Error::from)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

/// Answers.
pub async fn explain(client: &Client, question: &Question<'_>) -> Result<Explained, Error> {
    let Question {
        namespace,
        name,
        now,
        system,
        profile,
        ref defaults,
    } = *question;
    let instance = read::instance(client, namespace, name).await?;
    let found = recorded::find(client, system, &instance).await;
    let now = if now || found.recorded.is_none() {
        Some(now::now(client, system, &instance, profile, defaults).await?)
    } else {
        None
    };
    let conditions = instance.status.iter().flat_map(|status| &status.conditions);
    Ok(Explained {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        flavor: instance.spec.flavor.clone(),
        host: instance.spec.node_name.clone(),
        scheduled: conditions.into_iter().find(|c| c.type_ == types::SCHEDULED).cloned(),
        found,
        now,
    })
}
