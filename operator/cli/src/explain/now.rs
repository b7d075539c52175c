//! What would be decided now? The cluster is read as far as the user may, and the scheduler is asked what every host
//! says to the Instance.

use kube::Client;
use serde::Serialize;
use virga_controller::scheduling::HostDefaults;
use virga_core::nearest::did_you_mean;
use virga_crds::Instance;
use virga_scheduler::{HostVerdict, Rejection};

use super::{Error, System, read, rules};
use crate::{cluster::Unread, index::Index, profile, simulate::Obstacle, usage::HostUse};

/// What every host says now.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Now {
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

/// Asks every host that the user may see.
pub(super) async fn now(
    client: &Client,
    system: &System,
    instance: &Instance,
    given: Option<&profile::Named>,
    defaults: &HostDefaults,
) -> Result<Now, Error> {
    let read::Read {
        objects,
        mut unread,
        is_all,
    } = read::around(client, instance).await?;
    let profile = match given {
        Some(given) => given.clone(),
        None => rules::of_release(client, &system.namespace, &mut unread).await?,
    };
    let mut now = Now {
        profile: profile.name.clone(),
        obstacles: Vec::new(),
        takes: None,
        rejections: Vec::new(),
        hosts: Vec::new(),
        unread,
    };
    let mut index = Index::new(&objects, profile.profile, defaults, 0);
    for known in &objects.instances {
        index.see(known);
    }
    if !is_all {
        index.fill_up(&objects.hypervisors);
    }
    let request = match index.request(instance) {
        Ok(request) => request,
        Err(obstacles) => {
            now.obstacles = obstacles.into_iter().map(Obstacle::from).collect();
            return Ok(now);
        }
    };
    now.takes = Some(Takes {
        vcpus: request.resources.vcpus,
        memory: request.resources.memory_bytes,
        disk: request.resources.disk_bytes,
    });
    let table = index.cluster.explain(&request);
    // How full the hosts are for this Instance: without it.
    index.cluster.forget(&request.uid);
    let usage = HostUse::of(&index.cluster);
    now.rejections = table.rejections;
    now.hosts = table
        .hosts
        .into_iter()
        .zip(usage)
        .map(|(verdict, usage)| Said { verdict, usage })
        .collect();
    Ok(now)
}

impl Now {
    /// The place of a host among those that were asked; none were asked when something else stands in the way.
    pub(super) fn find(&self, host: &str) -> Result<Option<usize>, Error> {
        let at = self.hosts.iter().position(|said| said.verdict.host == host);
        if at.is_some() || self.hosts.is_empty() {
            return Ok(at);
        }
        let known = self.hosts.iter().map(|said| said.verdict.host.as_str());
        Err(Error::NoHost(host.to_owned(), did_you_mean(host, known)))
    }
}
