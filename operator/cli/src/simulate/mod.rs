//! Where would these Instances go? Each is decided by the scheduler itself, in the order in which they were given.

mod json;
mod report;

use std::{fs, io, io::Write, path::PathBuf, time::Duration};

use kube::ResourceExt;
use serde::Serialize;
use virga_controller::scheduling::{HostDefaults, obstacle};
use virga_crds::Instance;
use virga_scheduler::{Rejection, Table, Verdict};

use crate::{
    flags::{Output, SimulateArgs},
    index::{Index, bound_to, uid},
    manifests::{self, Faults, Manifests},
    objects::Objects,
    plot, profile,
    usage::HostUse,
    words::printable,
};

/// What became of one Instance.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its Flavor.
    pub flavor: String,
    /// Where it would go; null when it was refused.
    pub host: Option<String>,
    /// How many hosts there are.
    pub hosts: u32,
    /// How many of them passed all filters.
    pub fits: u32,
    /// How many hosts each filter rejected, in the order of the filters; each host is counted once.
    pub rejections: Vec<Rejection>,
    /// The hosts that passed, with their weights as they were before the choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub survivors: Option<Vec<Survivor>>,
    /// What stands in the way whatever the hosts offer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub obstacles: Vec<Obstacle>,
    /// Why it was refused; empty when it was not.
    pub message: String,
}

/// A host that passed all filters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Survivor {
    /// The host.
    pub host: String,
    /// The sum of what the weighers gave it.
    pub weight: f64,
}

/// Something of the Instance's own that keeps it from being placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// The field's path.
    pub field: String,
    /// What is wrong, and the cure.
    pub message: String,
}

impl From<obstacle::Obstacle> for Obstacle {
    fn from(obstacle: obstacle::Obstacle) -> Self {
        let obstacle::Obstacle { field, message, .. } = obstacle;
        Self { field, message }
    }
}

/// The end of a run.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Instances that had a host before.
    pub already_placed: usize,
    /// Instances that got one.
    pub placed: usize,
    /// Instances that got none.
    pub refused: usize,
    /// How full the hosts are at the end, by name.
    pub hosts: Vec<HostUse>,
}

/// By which rules, and how much is to be told.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The profile.
    pub profile: profile::Named,
    /// For hosts that say nothing.
    pub defaults: HostDefaults,
    /// Decides among equals.
    pub seed: u64,
    /// Those that are placed count as being built until the end.
    pub burst: bool,
    /// Whether the survivors of each decision are told.
    pub survivors: bool,
}

/// Why nothing was simulated, or not all was told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifests are wrong.
    #[error(transparent)]
    Manifests(#[from] Faults),
    /// A profile is.
    #[error(transparent)]
    Profile(#[from] profile::Error),
    /// Too many of them.
    #[error("comparing profiles: {0} are given, and two can be compared")]
    Profiles(usize),
    /// The picture can't be written.
    #[error("writing {}", path.display())]
    Plot {
        /// Where to.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was found can't be printed.
    #[error("printing")]
    Print(#[from] io::Error),
}

/// Does what the flags say. Returns how many Instances were refused, over all profiles.
pub fn run(args: SimulateArgs, out: &mut dyn Write, notes: &mut dyn Write) -> Result<usize, Error> {
    let SimulateArgs {
        filename,
        namespace,
        output,
        plot,
        profile,
        seed,
        burst,
        fail_on_refused: _,
        ratios,
    } = args;
    if profile.len() > 2 {
        return Err(Error::Profiles(profile.len()));
    }
    let mut profiles = profile
        .iter()
        .map(|path| profile::read(path))
        .collect::<Result<Vec<_>, _>>()?;
    if profiles.is_empty() {
        profiles.push(profile::standard());
    }
    let Manifests { objects, warnings } = manifests::read(&filename, &namespace)?;
    for warning in warnings {
        writeln!(notes, "warning: {}", printable(&warning))?;
    }
    let defaults = HostDefaults::from(ratios);
    let rules = |profile| Rules {
        profile,
        defaults,
        seed,
        burst,
        survivors: output == Output::Json,
    };
    let runs: Vec<Rules> = profiles.into_iter().map(rules).collect();
    let summaries = match output {
        Output::Json => json::print(&objects, &runs, out)?,
        Output::Table => report::print(&objects, &runs, out)?,
    };
    if let Some(path) = plot {
        let names = runs.iter().map(|rules| rules.profile.name.as_str());
        let columns: Vec<(&str, &[HostUse])> = names.zip(summaries.iter().map(|end| end.hosts.as_slice())).collect();
        fs::write(&path, plot::svg(&columns)).map_err(|source| Error::Plot { path, source })?;
    }
    Ok(summaries.iter().map(|summary| summary.refused).sum())
}

/// Places the Instances one after the other and tells each decision to `tell`.
pub fn simulate<E>(
    objects: &Objects,
    rules: &Rules,
    mut tell: impl FnMut(Decision) -> Result<(), E>,
) -> Result<Summary, E> {
    let profile = rules.profile.profile.clone();
    let mut index = Index::new(objects, profile, &rules.defaults, rules.seed);
    let mut summary = Summary::default();
    for instance in objects.instances.iter().filter(|instance| bound_to(instance).is_some()) {
        index.see(instance);
        summary.already_placed += 1;
    }
    let mut note = |decision: Decision| {
        let counted = if decision.host.is_some() {
            &mut summary.placed
        } else {
            &mut summary.refused
        };
        *counted += 1;
        tell(decision)
    };
    let leaves = |instance: &&Instance| instance.metadata.deletion_timestamp.is_some();
    let waiting = objects.instances.iter().filter(|instance| bound_to(instance).is_none());
    let mut later = Vec::new();
    for instance in waiting.filter(|instance| !leaves(instance)) {
        index.see(instance);
        let decision = decide(&mut index, rules, instance);
        if decision.obstacles.is_empty() {
            note(decision)?;
        } else {
            later.push(instance);
        }
    }
    // A hint may name one that only came later, which is when the queue looks at it again.
    for instance in later {
        note(decide(&mut index, rules, instance))?;
    }
    summary.hosts = HostUse::of(&index.cluster);
    Ok(summary)
}

fn decide(index: &mut Index, rules: &Rules, instance: &Instance) -> Decision {
    let mut decision = Decision {
        namespace: instance.namespace().unwrap_or_default(),
        name: instance.name_any(),
        flavor: instance.spec.flavor.clone(),
        host: None,
        hosts: 0,
        fits: 0,
        rejections: Vec::new(),
        survivors: None,
        obstacles: Vec::new(),
        message: String::new(),
    };
    let request = match index.request(instance) {
        Ok(request) => request,
        Err(obstacles) => {
            decision.obstacles = obstacles.into_iter().map(Obstacle::from).collect();
            let texts = decision.obstacles.iter();
            let texts: Vec<String> = texts.map(|told| format!("{}: {}", told.field, told.message)).collect();
            decision.message = texts.join("; ");
            return decision;
        }
    };
    decision.survivors = rules.survivors.then(|| survivors(index.cluster.explain(&request)));
    match index.cluster.schedule(&request, Duration::ZERO) {
        Ok(placement) => {
            decision.hosts = placement.hosts;
            decision.fits = placement.survivors;
            let explained = index.cluster.explanation(&uid(instance));
            decision.rejections = explained
                .map(|explained| explained.rejections.clone())
                .unwrap_or_default();
            if !rules.burst {
                index.place(instance, &placement.host);
            }
            decision.host = Some(placement.host);
        }
        Err(refusal) => {
            decision.hosts = refusal.hosts;
            decision.message = format!("{refusal:#}");
            decision.rejections = refusal.rejections;
        }
    }
    decision
}

fn survivors(table: Table) -> Vec<Survivor> {
    let passed = table.hosts.into_iter().filter_map(|said| match said.verdict {
        Verdict::Passed { weight, .. } => Some(Survivor {
            host: said.host,
            weight,
        }),
        Verdict::Rejected { .. } => None,
    });
    passed.collect()
}

#[cfg(test)]
mod tests;
