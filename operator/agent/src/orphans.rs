//! What is on this host that nobody asks for any more?
//!
//! An Instance whose finalizer was taken away by hand, one that was bound to another node, a network whose last guest
//! went while the agent was away. Nothing is removed because a watch doesn't show it: the API server is asked first, and
//! what it doesn't answer clearly stays.

use std::{collections::HashSet, path::PathBuf, time::Duration};

use kube::{Api, ResourceExt, api::ListParams};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use virga_crds::{Instance, Volume};
use virga_hypervisor::{DomainInfo, DomainState, Hypervisor};
use virga_runtime::class::{chain, is_gone};

use crate::{
    effect,
    host::{Host, READ},
    migration,
    removal::{remove_directory, retain},
};

/// How often the host is searched.
const EVERY: Duration = Duration::from_mins(5);
/// How long after a start: the loops settle first.
const FIRST: Duration = Duration::from_secs(2);
/// How long one question to the API server may take.
const ASK: Duration = Duration::from_secs(10);

/// Why a search was not finished.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// libvirt could not be asked.
    #[error("listing domains")]
    Domains(#[source] virga_hypervisor::Error),
    /// The API server could not be asked.
    #[error("asking the API server what is bound to this node")]
    Api(#[source] Box<kube::Error>),
    /// The API server didn't answer.
    #[error("asking the API server what is bound to this node: no answer within {} s", ASK.as_secs())]
    TimedOut,
    /// The data directory could not be read.
    #[error("reading {path}")]
    Read {
        /// Which directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something could not be removed.
    #[error("removing what nobody asks for")]
    Remove(#[from] effect::Error),
    /// A network could not be removed.
    #[error("removing networks without ports")]
    Networks(#[from] crate::port::Error),
}

/// Searches now and then until the process stops.
pub async fn run(host: Host, stop: CancellationToken) {
    let mut pause = FIRST;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
        }
        pause = EVERY;
        if let Err(error) = collect(&host).await {
            tracing::warn!(error = chain(&error), "searching for orphans");
        }
        migration::sweep(&host).await;
        host.images.evict().await;
    }
}

/// One search. Returns how many things were removed.
pub async fn collect(host: &Host) -> Result<usize, Error> {
    let mut removed = domains(host).await?;
    removed += directories(host).await?;
    removed += volumes(host).await?;
    removed += host.networks.collect().await?;
    Ok(removed)
}

async fn domains(host: &Host) -> Result<usize, Error> {
    let listed = host.calls.host(READ, Hypervisor::domains).await;
    let mut removed = 0;
    for domain in listed.map_err(Error::Domains)? {
        if is_here(host, &domain.uuid.to_string()) || !is_orphan(host, &domain).await? {
            continue;
        }
        let (uid, active) = (domain.uuid, domain.state != DomainState::ShutOff);
        let ended = host.change(uid, move |hypervisor| {
            if active {
                hypervisor.destroy(uid)?;
            }
            hypervisor.undefine(uid)
        });
        match ended.await {
            Err(error) if !error.is_not_found() => return Err(Error::Remove(error.into())),
            _ => {}
        }
        remove_directory(host.layout.instance(uid).directory()).await?;
        host.metrics.orphan();
        removed += 1;
        let owner = domain.owner;
        tracing::info!(namespace = owner.namespace, name = owner.name, %uid, "removed a domain without an Instance");
    }
    Ok(removed)
}

fn is_here(host: &Host, uid: &str) -> bool {
    host.stores.instance(uid).is_some()
}

/// Whether the Instance that a domain was made for is proved to be gone, to be another one, or to be bound elsewhere.
async fn is_orphan(host: &Host, domain: &DomainInfo) -> Result<bool, Error> {
    let instances = Api::<Instance>::namespaced(host.client.clone(), &domain.owner.namespace);
    let instance = match ask(instances.get(&domain.owner.name)).await {
        Err(Error::Api(error)) if is_gone(&error) => return Ok(true),
        found => found?,
    };
    let same = instance.uid().as_deref() == Some(domain.uuid.to_string().as_str());
    let elsewhere = instance.spec.node_name.is_some_and(|node| node != host.node);
    Ok(!same || elsewhere)
}

async fn ask<T>(question: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    let answer = timeout(ASK, question).await.map_err(|_| Error::TimedOut)?;
    answer.map_err(|error| Error::Api(Box::new(error)))
}

async fn directories(host: &Host) -> Result<usize, Error> {
    let suspects = suspects(host.layout.instances(), "", |uid| is_here(host, uid)).await?;
    if suspects.is_empty() {
        return Ok(0);
    }
    let bound = ask(Api::<Instance>::all(host.client.clone()).list(&bound(host))).await?;
    let bound: HashSet<String> = bound.items.iter().filter_map(ResourceExt::uid).collect();
    let mut removed = 0;
    for uid in suspects.into_iter().filter(|uid| !bound.contains(&uid.to_string())) {
        // A domain that was kept above keeps its disks.
        let domain = host.read(uid, move |hypervisor| hypervisor.domain(uid)).await;
        if !domain.is_err_and(|error| error.is_not_found()) {
            continue;
        }
        remove_directory(host.layout.instance(uid).directory()).await?;
        host.metrics.orphan();
        removed += 1;
        tracing::info!(%uid, "removed an Instance's files without an Instance");
    }
    Ok(removed)
}

/// A volume's data is never removed but when its Volume says so: what has no Volume is kept aside.
async fn volumes(host: &Host) -> Result<usize, Error> {
    let here = |uid: &str| {
        let is_it = |volume: &Volume| volume.metadata.uid.as_deref() == Some(uid);
        host.stores.volumes.find(is_it).is_some()
    };
    let suspects = suspects(host.layout.volumes(), ".qcow2", here).await?;
    if suspects.is_empty() {
        return Ok(0);
    }
    let bound = ask(Api::<Volume>::all(host.client.clone()).list(&bound(host))).await?;
    let bound: HashSet<String> = bound.items.iter().filter_map(ResourceExt::uid).collect();
    let mut removed = 0;
    for uid in suspects.into_iter().filter(|uid| !bound.contains(&uid.to_string())) {
        let kept = host.layout.retained_volume("orphan", "volume", uid);
        retain(&host.layout.volume(uid), &kept).await?;
        host.metrics.orphan();
        removed += 1;
        tracing::warn!(%uid, kept = %kept.display(), "put aside a volume's file without a Volume");
    }
    Ok(removed)
}

fn bound(host: &Host) -> ListParams {
    ListParams::default().fields(&format!("spec.nodeName={}", host.node))
}

/// The uids that names in a directory are made of, without those that are known.
async fn suspects(directory: PathBuf, suffix: &str, known: impl Fn(&str) -> bool) -> Result<Vec<Uuid>, Error> {
    let read_error = |source| Error::Read {
        path: directory.clone(),
        source,
    };
    let mut entries = tokio::fs::read_dir(&directory).await.map_err(read_error)?;
    let mut suspects = Vec::new();
    while let Some(entry) = entries.next_entry().await.map_err(read_error)? {
        let name = entry.file_name();
        let uid = name.to_str().and_then(|name| name.strip_suffix(suffix));
        // What isn't named by us is not ours.
        let Some(uid) = uid.and_then(|uid| uid.parse::<Uuid>().ok()) else {
            continue;
        };
        if !known(&uid.to_string()) {
            suspects.push(uid);
        }
    }
    Ok(suspects)
}
