//! What one Instance holds on one host.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::{ImageFacts, Request, Resources, Uid};

/// What was seen on a host: an Instance that runs there, or a Volume on its disk.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The host's name.
    pub host: &'a str,
    /// Processors, memory and disk.
    pub resources: &'a Resources,
    /// Units of other resource classes.
    pub units: Option<&'a BTreeMap<String, u64>>,
    /// The ServerGroup's UID.
    pub group: Option<&'a Uid>,
    /// The image that it was built from, for the ImagePropertiesWeigher.
    pub image: Option<&'a Arc<ImageFacts>>,
    /// Whether it is an Instance. A Volume takes room, but filters that count Instances don't count it.
    pub is_instance: bool,
}

impl<'a> Claim<'a> {
    /// An Instance that holds processors, memory and disk only.
    pub fn new(host: &'a str, resources: &'a Resources) -> Self {
        Self {
            host,
            resources,
            units: None,
            group: None,
            image: None,
            is_instance: true,
        }
    }

    /// A Volume on a host's own disk.
    pub fn volume(host: &'a str, resources: &'a Resources) -> Self {
        Self {
            is_instance: false,
            ..Self::new(host, resources)
        }
    }

    /// What a request would hold on a host.
    pub(crate) fn of(request: &'a Request, host: &'a str) -> Self {
        Self {
            host,
            resources: &request.resources,
            units: request.demands.as_ref().map(|demands| &demands.resources),
            group: request.group.as_ref().map(|group| &group.uid),
            image: request.image.as_ref(),
            is_instance: true,
        }
    }
}

/// A placement or a reservation. There is one for each Instance, so it is kept small: host and group are numbers.
#[derive(Debug, Clone)]
pub(crate) struct Allocation {
    pub(crate) host: u32,
    pub(crate) group: Option<u32>,
    pub(crate) amount: Amount,
    /// When a reservation ends; `None` for a placement.
    pub(crate) until: Option<Duration>,
}

/// What is added to a host's account and taken off again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Amount {
    pub(crate) resources: Resources,
    pub(crate) is_instance: bool,
    pub(crate) more: Option<Box<More>>,
}

/// What few Instances hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct More {
    /// Number of a resource class and units of it, by number.
    pub(crate) units: Vec<(u32, u64)>,
    pub(crate) image: Option<Arc<ImageFacts>>,
}

impl Amount {
    pub(crate) fn units(&self) -> &[(u32, u64)] {
        self.more.as_ref().map_or(&[], |more| &more.units)
    }

    pub(crate) fn image(&self) -> Option<&Arc<ImageFacts>> {
        self.more.as_ref()?.image.as_ref()
    }
}
