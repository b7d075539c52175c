//! What one Instance holds on one host.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::topology::{GuestTopology, PciRequest, Pinning};
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
    /// The cells that it asks of its host.
    pub topology: Option<&'a GuestTopology>,
    /// The devices that it asks of its host.
    pub devices: &'a [PciRequest],
    /// Where its cells and devices are, as its host says; `None` when it has none, or when the host has not said yet.
    pub pinning: Option<&'a Pinning>,
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
            topology: None,
            devices: &[],
            pinning: None,
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
        let demands = request.demands.as_deref();
        Self {
            host,
            resources: &request.resources,
            units: demands.map(|demands| &demands.resources),
            group: request.group.as_ref().map(|group| &group.uid),
            image: request.image.as_ref(),
            topology: demands.and_then(|demands| demands.topology.as_ref()),
            devices: demands.map_or(&[], |demands| &demands.devices),
            pinning: None,
            is_instance: true,
        }
    }
}

impl More {
    /// What few hold, of a claim; `None` when it is nothing.
    pub(crate) fn of(claim: &Claim<'_>, units: Vec<(u32, u64)>, image: Option<Arc<ImageFacts>>) -> Option<Box<Self>> {
        let pinning = claim.pinning.filter(|pinning| !pinning.is_empty()).cloned();
        let wanted = if pinning.is_none() { Wanted::of(claim) } else { None };
        let holds = !units.is_empty() || image.is_some() || pinning.is_some() || wanted.is_some();
        holds.then(|| {
            Box::new(Self {
                units,
                image,
                pinning,
                wanted,
            })
        })
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
    /// Where its cells and devices are.
    pub(crate) pinning: Option<Pinning>,
    /// What it asks for, as long as its host has not said where that is: `pinning` is our own idea then, or `None` where
    /// there is no room that we know of.
    pub(crate) wanted: Option<Wanted>,
}

/// The cells and devices that an Instance asks of its host.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) topology: Option<GuestTopology>,
    pub(crate) devices: Vec<PciRequest>,
}

impl Wanted {
    /// What a claim asks for; `None` when that is nothing.
    pub(crate) fn of(claim: &Claim<'_>) -> Option<Self> {
        (claim.topology.is_some() || !claim.devices.is_empty()).then(|| Self {
            topology: claim.topology.cloned(),
            devices: claim.devices.to_vec(),
        })
    }
}

impl Amount {
    pub(crate) fn units(&self) -> &[(u32, u64)] {
        self.more.as_ref().map_or(&[], |more| &more.units)
    }

    pub(crate) fn image(&self) -> Option<&Arc<ImageFacts>> {
        self.more.as_ref()?.image.as_ref()
    }

    pub(crate) fn pinning(&self) -> Option<&Pinning> {
        self.more.as_ref()?.pinning.as_ref()
    }

    pub(crate) fn wanted(&self) -> Option<&Wanted> {
        self.more.as_ref()?.wanted.as_ref()
    }

    /// Takes over where the same Instance was until now on the same host, if it asks for the same and nobody says
    /// otherwise.
    pub(crate) fn keep_pinning(&mut self, before: &Self) {
        let (Some(more), Some(before)) = (self.more.as_deref_mut(), before.more.as_deref()) else {
            return;
        };
        let Some(wanted) = &more.wanted else { return };
        if before.wanted.as_ref() == Some(wanted) {
            more.pinning.clone_from(&before.pinning);
        } else if let Some(said) = &before.pinning
            && before.wanted.is_none()
            && said.answers(wanted.topology.as_ref(), &wanted.devices)
        {
            more.pinning = Some(said.clone());
            more.wanted = None;
        }
    }
}
