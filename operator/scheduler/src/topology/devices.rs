//! Which devices of a host does a guest get?
//!
//! Nova: `PciDeviceStats._filter_pools_for_numa_cells` in nova/pci/stats.py. Affinity is a question for guests with NUMA
//! nodes only: any device will do for others, whatever their policy.

use super::{HeldDevice, HostCell, HostTopology, Misfit, Occupied, PciAffinity, PciDevice, PciRequest};

/// A host's devices that nobody has.
#[derive(Debug)]
pub(super) struct Devices<'a> {
    cells: &'a [HostCell],
    free: Vec<&'a PciDevice>,
}

impl<'a> Devices<'a> {
    pub(super) fn of(host: &'a HostTopology, occupied: &Occupied) -> Self {
        let all = host.devices.iter();
        Self {
            cells: &host.cells,
            free: all.filter(|device| !occupied.has_device(&device.address)).collect(),
        }
    }

    /// How many are free near a cell, of all kinds.
    pub(super) fn in_cell(&self, cell: u32) -> usize {
        self.free.iter().filter(|device| device.cell == Some(cell)).count()
    }

    /// Whether there are enough, wherever they are.
    pub(super) fn enough(&self, requests: &[PciRequest]) -> Result<(), Misfit> {
        self.choose(requests, None).map(|_| ())
    }

    /// Whether none is free.
    pub(super) fn is_empty(&self) -> bool {
        self.free.is_empty()
    }

    /// How many devices for a request are near a cell, or near none that is known.
    pub(super) fn near_to(&self, request: &PciRequest, cell: Option<u32>) -> usize {
        let near = |device: &&&PciDevice| device.cell == cell && device.alias == request.alias;
        self.free.iter().filter(near).count()
    }

    /// Devices for a guest in these cells of the host (by id), or for one without NUMA nodes.
    pub(super) fn choose(&self, requests: &[PciRequest], cells: Option<&[u32]>) -> Result<Vec<HeldDevice>, Misfit> {
        let mut taken = vec![false; self.free.len()];
        let mut held = Vec::new();
        for request in requests {
            let needed = usize::try_from(request.count).unwrap_or(usize::MAX);
            let of_kind: Vec<usize> = (0..self.free.len())
                .filter(|&at| !taken[at] && self.free[at].alias == request.alias)
                .collect();
            if of_kind.len() < needed {
                return Err(Misfit::Devices {
                    alias: request.alias.clone(),
                    free: of_kind.len(),
                    needed: request.count,
                });
            }
            let chosen = match cells {
                None => of_kind,
                Some(cells) => self.near(of_kind, cells, request.affinity, needed),
            };
            if chosen.len() < needed {
                return Err(Misfit::DevicesNear {
                    alias: request.alias.clone(),
                    free: chosen.len(),
                    needed: request.count,
                });
            }
            for &at in &chosen[..needed] {
                taken[at] = true;
                held.push(HeldDevice {
                    alias: request.alias.clone(),
                    address: self.free[at].address.clone(),
                });
            }
        }
        Ok(held)
    }

    /// Those of the devices that are near enough, the nearest first. A stricter policy than the one asked for is kept
    /// where that gives enough of them.
    fn near(&self, of_kind: Vec<usize>, cells: &[u32], affinity: PciAffinity, needed: usize) -> Vec<usize> {
        let within = |keep: &dyn Fn(Option<u32>) -> bool| -> Vec<usize> {
            let near = of_kind.iter().copied();
            near.filter(|&at| keep(self.free[at].cell)).collect()
        };
        let inside = |cell: Option<u32>| cell.is_some_and(|cell| cells.contains(&cell));
        let near = within(&inside);
        if affinity == PciAffinity::Required || near.len() >= needed {
            return near;
        }
        if affinity == PciAffinity::Socket {
            let socket = |cell: u32| self.cells.iter().find(|of| of.id == cell).map(|of| of.socket);
            let sockets: Vec<u32> = cells.iter().filter_map(|&cell| socket(cell)).collect();
            return within(&|cell| cell.and_then(socket).is_some_and(|socket| sockets.contains(&socket)));
        }
        let known = |cell: Option<u32>| cell.is_none() || inside(cell);
        let near = within(&known);
        if affinity == PciAffinity::Legacy || near.len() >= needed {
            return near;
        }
        let mut all = of_kind;
        all.sort_by_key(|&at| !known(self.free[at].cell));
        all
    }
}
