//! The figures of hosts that are kept in columns.

/// A figure that weighers and queries read, kept up to date with every change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Physical memory that is neither reserved nor used, in bytes.
    SpareMemory,
    /// Physical disk that is neither reserved nor used, in bytes.
    SpareDisk,
    /// Processors that may still be given out.
    SpareVcpus,
    /// Operations that run or are about to.
    IoOps,
    /// Builds that failed in a row.
    FailedBuilds,
    /// The hypervisor's version.
    Version,
    /// Instances.
    Instances,
    /// What the profile makes of the host's metrics.
    Metrics,
    /// Processors that there are.
    TotalVcpus,
    /// Memory that there is, in bytes.
    TotalMemory,
    /// Disk that there is, in bytes.
    TotalDisk,
    /// 100 less the devices that nobody has, at least 1.
    FewDevices,
}

impl Measure {
    /// How many there are.
    pub(crate) const COUNT: usize = 12;
}
