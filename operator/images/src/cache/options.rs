//! How a cache behaves.

use std::{path::PathBuf, time::Duration};

/// How a cache behaves. Sizes in bytes.
#[derive(Clone, Debug)]
pub struct Options {
    /// [`super::Cache::evict`] removes unused images until the cache takes at most this much. Also the largest image.
    pub max_bytes: u64,
    /// What must stay free in the file system: no fetch starts below it, and eviction goes on until it is free.
    pub min_free: u64,
    /// The directory that [`super::Source::Path`] is relative to. Without one such sources are refused.
    pub store: Option<PathBuf>,
    /// The largest file that is fetched.
    pub max_image_size: u64,
    /// How many fetches run at the same time; more wait.
    pub concurrency: usize,
    /// How often in a row a download may fail without progress.
    pub attempts: u32,
    /// The wait after the first failure; it doubles with each.
    pub backoff: Duration,
    /// The longest wait.
    pub max_backoff: Duration,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long to wait for an answer, and for the next byte.
    pub stall_timeout: Duration,
    /// How long one download may take in all.
    pub deadline: Duration,
    /// How many redirects are followed.
    pub max_redirects: usize,
    /// Whether URLs may lead to addresses of the node itself and of its link (127.0.0.1, 169.254.169.254, ...). Only
    /// for machines without tenants.
    pub allow_local_addresses: bool,
    /// CA certificates to trust beside the system's, in PEM.
    pub ca_certificates: Vec<u8>,
    /// An image that was used so recently is not evicted, pinned or not.
    pub keep_recent: Duration,
}

impl Options {
    /// The usual options with these two sizes, in bytes.
    pub fn new(max_bytes: u64, min_free: u64) -> Self {
        Self {
            max_bytes,
            min_free,
            store: None,
            max_image_size: 1 << 40,
            concurrency: 2,
            attempts: 5,
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            deadline: Duration::from_hours(6),
            max_redirects: 5,
            allow_local_addresses: false,
            ca_certificates: Vec::new(),
            keep_recent: Duration::from_mins(10),
        }
    }
}
