//! Why is this Instance there, or nowhere? The cluster is read as far as the user may, and the scheduler is asked what
//! every host says to the Instance now.

mod read;
mod report;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use serde::Serialize;
use virga_controller::scheduling::HostDefaults;
use virga_core::nearest::did_you_mean;
use virga_crds::{Condition, conditions::types};
use virga_scheduler::{HostVerdict, Rejection};

pub use read::Unread;

use crate::{
    flags::{ExplainArgs, Output},
    index::Index,
    profile,
    simulate::Obstacle,
    usage::HostUse,
};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig can't be used.
    #[error("reading the kubeconfig")]
    Kubeconfig(#[source] Box<KubeconfigError>),
    /// There is no cluster to ask.
    #[error("finding the cluster")]
    Infer(#[source] Box<kube::config::InferConfigError>),
    /// The client can't be made.
    #[error("connecting to the cluster")]
    Client(#[source] Box<kube::Error>),
    /// The profile can't be used.
    #[error(transparent)]
    Profile(#[from] profile::Error),
    /// The cluster can't be read.
    #[error(transparent)]
    Read(#[from] read::Error),
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
    /// By which rules it was asked.
    pub profile: String,
    /// What stands in the way whatever the hosts offer.
    pub obstacles: Vec<Obstacle>,
    /// What it takes of a host.
    pub takes: Option<Takes>,
    /// How many hosts each filter rejects, in the order of the filters; each host is counted once.
    pub rejections: Vec<Rejection>,
    /// What each host says.
    pub hosts: Vec<Said>,
    /// What could not be read.
    pub unread: Vec<Unread>,
}

/// What an Instance takes of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Takes {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of disk.
    pub disk: u64,
}

/// What one host says, and how full it is without the Instance.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    /// The host, and whether it passes.
    #[serde(flatten)]
    pub verdict: HostVerdict,
    /// How full it is.
    pub usage: HostUse,
}

/// Does what the flags say.
pub async fn run(args: ExplainArgs, out: &mut dyn Write) -> Result<(), Error> {
    let ExplainArgs {
        instance,
        host,
        namespace,
        output,
        profile,
        kubeconfig,
        context,
        ratios,
    } = args;
    let profile = profile.map_or_else(|| Ok(profile::standard()), |path| profile::read(&path))?;
    let client = connect(kubeconfig, context).await?;
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let explained = explain(&client, &namespace, &instance, &profile, &ratios.into()).await?;
    print(explained, host.as_deref(), output, out)
}

/// Prints the answer, or what one host says.
pub fn print(mut explained: Explained, host: Option<&str>, output: Output, out: &mut dyn Write) -> Result<(), Error> {
    let at = host.map(|host| explained.find(host)).transpose()?.flatten();
    match (output, at) {
        (Output::Table, None) => report::table(&explained, out)?,
        (Output::Table, Some(at)) => report::words(&explained, at, out)?,
        (Output::Json, at) => {
            if let Some(at) = at {
                explained.hosts = vec![explained.hosts.swap_remove(at)];
            }
            serde_json::to_writer_pretty(&mut *out, &explained).map_err(io::Error::from)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

async fn connect(path: Option<PathBuf>, context: Option<String>) -> Result<Client, Error> {
    let options = KubeConfigOptions {
        context,
        ..KubeConfigOptions::default()
    };
    let wrong = |error| Error::Kubeconfig(Box::new(error));
    let config = match path {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
            Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .map_err(wrong)?
        }
        None if options.context.is_some() => Config::from_kubeconfig(&options).await.map_err(wrong)?,
        None => Config::infer().await.map_err(|error| Error::Infer(Box::new(error)))?,
    };
    Client::try_from(config).map_err(|error| Error::Client(Box::new(error)))
}

/// Asks every host that the user may see.
pub async fn explain(
    client: &Client,
    namespace: &str,
    name: &str,
    profile: &profile::Named,
    defaults: &HostDefaults,
) -> Result<Explained, Error> {
    let read::Read {
        instance,
        objects,
        unread,
        is_all,
    } = read::read(client, namespace, name).await?;
    let conditions = instance.status.iter().flat_map(|status| &status.conditions);
    let mut explained = Explained {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        flavor: instance.spec.flavor.clone(),
        host: instance.spec.node_name.clone(),
        scheduled: conditions.into_iter().find(|c| c.type_ == types::SCHEDULED).cloned(),
        profile: profile.name.clone(),
        obstacles: Vec::new(),
        takes: None,
        rejections: Vec::new(),
        hosts: Vec::new(),
        unread,
    };
    let mut index = Index::new(&objects, profile.profile.clone(), defaults, 0);
    for known in &objects.instances {
        index.see(known);
    }
    if !is_all {
        index.fill_up(&objects.hypervisors);
    }
    let request = match index.request(&instance) {
        Ok(request) => request,
        Err(obstacles) => {
            let told = obstacles.into_iter().map(|obstacle| Obstacle {
                field: obstacle.field,
                message: obstacle.message,
            });
            explained.obstacles = told.collect();
            return Ok(explained);
        }
    };
    explained.takes = Some(Takes {
        vcpus: request.resources.vcpus,
        memory: request.resources.memory_bytes,
        disk: request.resources.disk_bytes,
    });
    let table = index.cluster.explain(&request);
    // How full the hosts are for this Instance: without it.
    index.cluster.forget(&request.uid);
    let usage = HostUse::of(&index.cluster);
    explained.rejections = table.rejections;
    explained.hosts = table
        .hosts
        .into_iter()
        .zip(usage)
        .map(|(verdict, usage)| Said { verdict, usage })
        .collect();
    Ok(explained)
}

impl Explained {
    /// The place of a host among those that were asked; none were asked when something else stands in the way.
    fn find(&self, host: &str) -> Result<Option<usize>, Error> {
        let at = self.hosts.iter().position(|said| said.verdict.host == host);
        if at.is_some() || self.hosts.is_empty() {
            return Ok(at);
        }
        let known = self.hosts.iter().map(|said| said.verdict.host.as_str());
        Err(Error::NoHost(host.to_owned(), did_you_mean(host, known)))
    }
}
