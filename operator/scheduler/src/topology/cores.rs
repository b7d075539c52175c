//! Which host CPUs become a node's own?
//!
//! Nova: `_pack_instance_onto_cores` in nova/virt/hardware.py: threads of one core are taken together where that goes, and
//! emptier cores first. One difference: Nova carries out the thread policy `isolate` on hosts without threads only, since
//! it counts no threads that stay empty; here they are counted, so it holds on any host.

use super::cell::{Cell, Node};
use super::{CpuSet, Misfit, ThreadPolicy};

/// How many threads of each core of a cell are free.
#[derive(Debug, Default)]
pub(super) struct Cores {
    /// How many cores have so many free threads, by number of threads.
    having: Vec<usize>,
    /// The most threads that a core has, free or not.
    threads: usize,
}

impl Cores {
    /// Nothing is counted under the policy `prefer`, which takes any threads.
    pub(super) fn of(cell: &Cell<'_>, policy: ThreadPolicy) -> Self {
        let mut cores = Self::default();
        if policy == ThreadPolicy::Prefer {
            return cores;
        }
        let mut beside = 0;
        for core in &cell.facts.siblings {
            let free = core.shared_with(&cell.free);
            cores.threads = cores.threads.max(core.len());
            cores.note(free);
            beside += free;
        }
        // CPUs that are in no list of threads have a core each.
        for _ in beside..cell.free.len() {
            cores.note(1);
        }
        cores.threads = cores.threads.max(1);
        cores
    }

    fn note(&mut self, free: usize) {
        if self.having.len() <= free {
            self.having.resize(free + 1, 0);
        }
        self.having[free] += 1;
    }

    fn with_at_least(&self, threads: usize) -> usize {
        self.having.iter().skip(threads).sum()
    }

    /// Whether a node's CPUs can be taken, where there are enough of them.
    pub(super) fn take(&self, node: &Node, policy: ThreadPolicy) -> Result<(), Misfit> {
        let wanted = node.dedicated;
        match policy {
            _ if wanted == 0 => Ok(()),
            ThreadPolicy::Prefer => Ok(()),
            ThreadPolicy::Isolate => {
                let whole = self.with_at_least(self.threads);
                // QEMU's own threads are content with a core that somebody else is on.
                let others = self.with_at_least(1);
                if wanted <= whole && node.own() <= others {
                    return Ok(());
                }
                Err(Misfit::Cores {
                    free: whole,
                    needed: node.own(),
                })
            }
            ThreadPolicy::Require => {
                let beside = (2..self.having.len()).map(|threads| threads * self.with_at_least(threads));
                let free = beside.max().unwrap_or(0);
                if wanted <= free {
                    return Ok(());
                }
                Err(Misfit::Siblings { free, needed: wanted })
            }
        }
    }
}

/// Host CPUs for a node.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// One for each dedicated virtual CPU.
    pub(super) cpus: Vec<u32>,
    /// Threads beside them that stay empty.
    pub(super) kept_empty: CpuSet,
    /// One for QEMU's own threads.
    pub(super) emulator: Option<u32>,
}

/// Takes host CPUs for a node that was [found to fit](Cores::take).
pub(super) fn take(cell: &Cell<'_>, node: &Node, policy: ThreadPolicy) -> Taken {
    let mut alone = cell.free.clone();
    let mut cores: Vec<Vec<u32>> = Vec::new();
    for core in &cell.facts.siblings {
        let free = core.intersection(&alone);
        alone = alone.difference(&free);
        cores.push(free.iter().collect());
    }
    cores.extend(alone.iter().map(|cpu| vec![cpu]));
    cores.retain(|core| !core.is_empty());
    let mut taken = Taken::default();
    let most = cores.iter().map(Vec::len).max().unwrap_or(0);
    let threads = cell.facts.siblings.iter().map(CpuSet::len).max().unwrap_or(1).max(1);
    let mut left: CpuSet = cores.iter().flatten().copied().collect();
    if policy == ThreadPolicy::Isolate {
        let whole = cores.iter().filter(|core| core.len() == threads);
        for core in whole.take(node.dedicated) {
            taken.cpus.push(core[0]);
            core[1..].iter().for_each(|&cpu| taken.kept_empty.insert(cpu));
        }
    } else {
        let least = if policy == ThreadPolicy::Require { 2 } else { 1 };
        let enough = |&threads: &usize| {
            let having = cores.iter().filter(|core| core.len() >= threads);
            threads * having.count() >= node.dedicated
        };
        let threads = (least..=most).rev().find(enough);
        // None: what is left is in crumbs, and any thread will do.
        let (least, each) = threads.map_or((1, most), |threads| (threads, threads));
        let usable = cores.iter().filter(|core| core.len() >= least);
        let threads = usable.flat_map(|core| core.iter().take(each).copied());
        taken.cpus = threads.take(node.dedicated).collect();
    }
    for &cpu in &taken.cpus {
        left.remove(cpu);
    }
    if node.emulator {
        taken.emulator = left.difference(&taken.kept_empty).iter().next();
    }
    taken
}
