//! Does a guest fit into a host's cells, and where?
//!
//! Nova: `numa_fit_instance_to_host` in nova/virt/hardware.py, which tries permutations of cells. Here each pair of a node
//! and a cell is judged once, and only assignments that can still be completed are followed: hosts with sixteen cells cost
//! microseconds. Where devices near the cells decide too, at most [`MOST_SETS`] sets of cells are tried.

use std::cmp::Reverse;
use std::collections::HashSet;

use super::cell::{Cell, Kind, Node};
use super::cores;
use super::devices::Devices;
use super::{
    CpuSet, EmulatorThreads, GuestTopology, HeldDevice, HostTopology, Misfit, Occupied, PciAffinity, PciRequest,
    PinnedCell, Pinning,
};
use crate::Ratio;

/// How many times over a cell's shared CPUs and memory are given out (Nova's `NUMATopologyLimits`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Floating CPUs: at most so many for each shared CPU of a cell.
    pub vcpus: Ratio,
    /// Memory of guests with floating CPUs: at most so much for each byte of a cell, all that is held counted.
    pub memory: Ratio,
}

/// Sets of cells that are tried for their devices.
const MOST_SETS: usize = 4096;

/// Cells of a host that are looked at: as many as there are bits to a set of them.
const MOST_CELLS: usize = 128;

/// Where a guest's cells and devices would be on a host.
///
/// With neither cells nor devices asked for, that is an empty [`Pinning`]. The same host, guest and occupation always give
/// the same answer.
///
/// # Errors
///
/// What is short, where it does not fit.
pub fn fit(
    host: &HostTopology,
    occupied: &Occupied,
    limits: Limits,
    guest: Option<&GuestTopology>,
    devices: &[PciRequest],
) -> Result<Pinning, Misfit> {
    let free = Devices::of(host, occupied);
    let Some(guest) = guest else {
        return Ok(Pinning {
            devices: free.choose(devices, None)?,
            ..Pinning::default()
        });
    };
    let search = Search::new(host, occupied, limits, guest, devices, free)?;
    let (chosen, held) = search.run()?;
    Ok(search.pinning(&chosen, held))
}

/// Whether [`fit`] finds a place, which is less work than to say where.
pub(crate) fn fits(
    host: &HostTopology,
    occupied: &Occupied,
    limits: Limits,
    guest: Option<&GuestTopology>,
    devices: &[PciRequest],
) -> Result<(), Misfit> {
    let free = Devices::of(host, occupied);
    match guest {
        None => free.enough(devices),
        Some(guest) => Search::new(host, occupied, limits, guest, devices, free)?
            .run()
            .map(|_| ()),
    }
}

/// One guest's way into one host.
struct Search<'a> {
    guest: &'a GuestTopology,
    requests: &'a [PciRequest],
    /// The host's cells in the order in which they are tried.
    cells: Vec<Cell<'a>>,
    nodes: Vec<Node>,
    /// For each node the cells that take it, as bits.
    takes: Vec<u128>,
    /// For each node and cell the size of pages.
    pages: Vec<Vec<Option<u64>>>,
    devices: Devices<'a>,
}

impl<'a> Search<'a> {
    fn new(
        host: &'a HostTopology,
        occupied: &'a Occupied,
        limits: Limits,
        guest: &'a GuestTopology,
        requests: &'a [PciRequest],
        devices: Devices<'a>,
    ) -> Result<Self, Misfit> {
        if host.cells.is_empty() {
            return Err(Misfit::NoCells);
        }
        if host.cells.len() < guest.cells.len() {
            return Err(Misfit::FewCells {
                nodes: guest.cells.len(),
                cells: host.cells.len(),
            });
        }
        devices.enough(requests)?;
        let nodes: Vec<Node> = (0..)
            .zip(&guest.cells)
            .map(|(at, cell)| Node::of(guest, at, cell))
            .collect();
        let kind = Kind::of(&nodes);
        let mut cells: Vec<Cell<'a>> = host
            .cells
            .iter()
            .take(MOST_CELLS)
            .map(|facts| Cell::new(facts, occupied))
            .collect();
        if cells.len() > nodes.len() {
            order(&mut cells, kind, &devices, !requests.is_empty());
        }
        let mut takes = Vec::with_capacity(nodes.len());
        let mut pages = Vec::with_capacity(nodes.len());
        for node in &nodes {
            let mut nearest = None;
            let (mut taken_by, mut sizes) = (0u128, Vec::with_capacity(cells.len()));
            for (at, cell) in cells.iter().enumerate() {
                let judged = cell.takes(node, kind, guest, limits);
                sizes.push(judged.as_ref().ok().copied().flatten());
                match judged {
                    Ok(_) => taken_by |= 1 << at,
                    Err(misfit) => nearest = nearest.max(Some(misfit)),
                }
            }
            if let (0, Some(misfit)) = (taken_by, nearest) {
                return Err(misfit);
            }
            takes.push(taken_by);
            pages.push(sizes);
        }
        Ok(Self {
            guest,
            requests,
            cells,
            nodes,
            takes,
            pages,
            devices,
        })
    }

    /// The cell of each node, and the devices.
    fn run(&self) -> Result<(Vec<usize>, Vec<HeldDevice>), Misfit> {
        let mut chosen = Vec::with_capacity(self.nodes.len());
        if !self.completes(0, 0) {
            return Err(Misfit::Together {
                nodes: self.nodes.len(),
            });
        }
        self.can_have_devices()?;
        let mut tried = Tried::default();
        match self.descend(&mut chosen, 0, &mut tried) {
            Some(held) => Ok((chosen, held)),
            None if tried.sets >= MOST_SETS => Err(Misfit::Undecided { tried: tried.sets }),
            None => Err(tried.last.unwrap_or(Misfit::Together {
                nodes: self.nodes.len(),
            })),
        }
    }

    /// Follows the cells in order for the next node. What follows depends on the set of cells that are used and not on
    /// which node uses which, so no set is followed twice.
    fn descend(&self, chosen: &mut Vec<usize>, used: u128, tried: &mut Tried) -> Option<Vec<HeldDevice>> {
        let at = chosen.len();
        if at == self.nodes.len() {
            if self.requests.is_empty() {
                return Some(Vec::new());
            }
            tried.sets += 1;
            let cells: Vec<u32> = chosen.iter().map(|&cell| self.cells[cell].facts.id).collect();
            return match self.devices.choose(self.requests, Some(&cells)) {
                Ok(held) => Some(held),
                Err(misfit) => {
                    tried.last = Some(misfit);
                    None
                }
            };
        }
        for cell in 0..self.cells.len() {
            let with = used | 1 << cell;
            if self.takes[at] & 1 << cell == 0
                || with == used
                || tried.dead.contains(&with)
                || !self.completes(at + 1, with)
            {
                continue;
            }
            chosen.push(cell);
            let held = self.descend(chosen, with, tried);
            if held.is_some() || tried.sets >= MOST_SETS {
                return held;
            }
            chosen.pop();
            tried.dead.insert(with);
        }
        None
    }

    /// Whether the nodes from this one on can all have a cell beside those in use: a matching, grown node by node.
    fn completes(&self, from: usize, used: u128) -> bool {
        let mut node_in = [usize::MAX; MOST_CELLS];
        (from..self.nodes.len()).all(|node| {
            let mut seen = used;
            self.augment(node, &mut seen, &mut node_in)
        })
    }

    fn augment(&self, node: usize, seen: &mut u128, node_in: &mut [usize; MOST_CELLS]) -> bool {
        loop {
            let left = self.takes[node] & !*seen;
            if left == 0 {
                return false;
            }
            let cell = left.trailing_zeros() as usize;
            *seen |= 1 << cell;
            if node_in[cell] == usize::MAX || self.augment(node_in[cell], seen, node_in) {
                node_in[cell] = node;
                return true;
            }
        }
    }

    /// Refuses at once what no set of cells can bring: the cells with the most devices are taken as long as the nodes can
    /// still be spread over them, which gives the most that there can be (a transversal matroid).
    fn can_have_devices(&self) -> Result<(), Misfit> {
        for request in self.requests {
            let mut most = match request.affinity {
                PciAffinity::Required => 0,
                PciAffinity::Legacy => self.devices.near_to(request, None),
                // Whether there are enough in all was asked before.
                PciAffinity::Preferred | PciAffinity::Socket => continue,
            };
            let near = |at: usize| self.devices.near_to(request, Some(self.cells[at].facts.id));
            let mut order: Vec<(usize, usize)> = (0..self.cells.len()).map(|at| (at, near(at))).collect();
            order.sort_by_key(|&(_, devices)| Reverse(devices));
            let mut cell_of = [usize::MAX; MOST_CELLS];
            for (cell, devices) in order {
                let mut seen = 0u128;
                if devices > 0 && self.cover(cell, &mut seen, &mut cell_of) {
                    most += devices;
                }
            }
            if most < usize::try_from(request.count).unwrap_or(usize::MAX) {
                return Err(Misfit::DevicesNear {
                    alias: request.alias.clone(),
                    free: most,
                    needed: request.count,
                });
            }
        }
        Ok(())
    }

    /// Finds a node for a cell, moving other nodes where that helps. `cell_of` holds, by node, the cell that it
    /// is in.
    fn cover(&self, cell: usize, seen: &mut u128, cell_of: &mut [usize; MOST_CELLS]) -> bool {
        for (node, takes) in self.takes.iter().enumerate().take(MOST_CELLS) {
            if takes & 1 << cell == 0 || *seen & 1 << node != 0 {
                continue;
            }
            *seen |= 1 << node;
            if cell_of[node] == usize::MAX || self.cover(cell_of[node], seen, cell_of) {
                cell_of[node] = cell;
                return true;
            }
        }
        false
    }

    fn pinning(&self, chosen: &[usize], devices: Vec<HeldDevice>) -> Pinning {
        let mut emulator = CpuSet::new();
        if self.guest.emulator_threads == EmulatorThreads::Share {
            for cell in &self.cells {
                emulator = emulator.union(&cell.facts.shared);
            }
        }
        let mut cells = Vec::with_capacity(chosen.len());
        for (at, (node, guest)) in self.nodes.iter().zip(&self.guest.cells).enumerate() {
            let cell = &self.cells[chosen[at]];
            let taken = cores::take(cell, node, self.guest.thread_policy);
            taken.emulator.into_iter().for_each(|cpu| emulator.insert(cpu));
            let floating = guest.vcpus.difference(&guest.dedicated);
            cells.push(PinnedCell {
                cell: cell.facts.id,
                pins: guest
                    .dedicated
                    .intersection(&guest.vcpus)
                    .iter()
                    .zip(taken.cpus)
                    .collect(),
                shared: if floating.is_empty() {
                    CpuSet::new()
                } else {
                    cell.facts.shared.clone()
                },
                floating,
                memory_bytes: guest.memory_bytes,
                page_kib: self.pages[at][chosen[at]],
                kept_empty: taken.kept_empty,
            });
        }
        Pinning {
            cells,
            emulator,
            emulator_is_own: self.guest.emulator_threads == EmulatorThreads::Isolate,
            devices,
        }
    }
}

/// What a search has been through.
#[derive(Default)]
struct Tried {
    /// Sets of cells that lead nowhere.
    dead: HashSet<u128>,
    /// Whole sets whose devices were looked at.
    sets: usize,
    /// Why the last of them would not do.
    last: Option<Misfit>,
}

/// The cells with the most room first; before that, those with devices first when some are asked for, else last. The same
/// three stable sorts as in Nova.
fn order(cells: &mut [Cell<'_>], kind: Kind, devices: &Devices<'_>, wants_devices: bool) {
    cells.sort_by_key(|cell| Reverse(cell.free_memory()));
    if kind.pins {
        cells.sort_by_key(|cell| Reverse(cell.free.len()));
    } else {
        cells.sort_by_key(|cell| cell.floating);
    }
    if devices.is_empty() {
        return;
    }
    if wants_devices {
        cells.sort_by_cached_key(|cell| Reverse(devices.in_cell(cell.facts.id)));
    } else {
        cells.sort_by_cached_key(|cell| devices.in_cell(cell.facts.id));
    }
}
