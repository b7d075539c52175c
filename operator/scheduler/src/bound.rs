//! Comparing a figure of every host with one number, 64 hosts at a time where that is possible.

use crate::Candidate;
use crate::attribute::Number;
use crate::bits::{Bits, ones};
use crate::comparison::Comparison;
use crate::hosts::Hosts;
use crate::measure::Measure;

/// `floor(figure / unit)` compared with a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bound {
    measure: Measure,
    unit: f64,
    comparison: Comparison,
    value: f64,
}

const MIB: f64 = 1_048_576.0;
const GIB: f64 = 1_073_741_824.0;

impl Number {
    /// The column that holds it, and what of the column's unit makes one.
    fn column(self) -> Option<(Measure, f64)> {
        Some(match self {
            Self::FreeRamMb => (Measure::SpareMemory, MIB),
            Self::FreeDiskMb => (Measure::SpareDisk, MIB),
            Self::TotalUsableRamMb => (Measure::TotalMemory, MIB),
            Self::TotalUsableDiskGb => (Measure::TotalDisk, GIB),
            Self::VcpusTotal => (Measure::TotalVcpus, 1.0),
            Self::NumInstances => (Measure::Instances, 1.0),
            Self::NumIoOps => (Measure::IoOps, 1.0),
            Self::FailedBuilds => (Measure::FailedBuilds, 1.0),
            Self::HypervisorVersion => (Measure::Version, 1.0),
            _ => return None,
        })
    }

    /// Its value for a host.
    pub(crate) fn of(self, host: Candidate<'_>) -> Option<f64> {
        if let Some((measure, unit)) = self.column() {
            return Some((host.measure(measure) / unit).floor());
        }
        let facts = host.host()?;
        let cpu = &facts.platform.cpu;
        let known = |value: u32| (value > 0).then(|| f64::from(value));
        match self {
            Self::DiskMbUsed => Some(
                (host.used().disk_bytes >> 20)
                    .try_into()
                    .map_or(f64::MAX, crate::hosts::amount),
            ),
            Self::VcpusUsed => Some(crate::hosts::amount(host.used().vcpus)),
            Self::CpuRatio => Some(facts.ratios.vcpus.as_f64()),
            Self::RamRatio => Some(facts.ratios.memory.as_f64()),
            Self::DiskRatio => Some(facts.ratios.disk.as_f64()),
            Self::CpuCells => known(cpu.cells),
            Self::CpuSockets => known(cpu.sockets),
            Self::CpuCores => known(cpu.cores),
            Self::CpuThreads => known(cpu.threads),
            Self::MaxPhysAddrBits => known(cpu.maxphysaddr_bits),
            _ => None,
        }
    }
}

impl Bound {
    /// `None` when the number is in no column.
    pub(crate) fn new(number: Number, comparison: Comparison, value: f64) -> Option<Self> {
        let (measure, unit) = number.column()?;
        Some(Self {
            measure,
            unit,
            comparison,
            value,
        })
    }

    #[inline]
    fn holds(&self, figure: f64) -> bool {
        self.comparison.holds((figure / self.unit).floor(), self.value)
    }

    /// Keeps the hosts of which it is true.
    pub(crate) fn keep(&self, hosts: &Hosts, left: &mut Bits) {
        let column = hosts.measure(self.measure);
        left.change(|block, word| {
            let (lowest, highest) = column.bounds(block);
            let (low, high) = (self.holds(lowest), self.holds(highest));
            // True at one end only: somewhere in between it turns. An equality may be true in the middle alone.
            let settled = match self.comparison {
                Comparison::Equal | Comparison::In => {
                    let outside =
                        (lowest / self.unit).floor() > self.value || (highest / self.unit).floor() < self.value;
                    low && high || outside
                }
                _ => low == high,
            };
            if settled {
                return if low { word } else { 0 };
            }
            let mut kept = 0;
            for slot in ones(block, word) {
                kept |= u64::from(self.holds(column.get(slot))) << (slot % 64);
            }
            kept
        });
    }
}
