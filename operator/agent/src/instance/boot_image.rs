//! Which Image shapes the machine: its own, or its boot volume's?

use std::sync::Arc;

use kube::ResourceExt;
use virga_crds::{Image, ImageRef, Instance};

use crate::host::Host;

/// The Image whose properties shape the machine.
#[derive(Clone, Debug)]
pub enum BootImage {
    /// There is none: a boot volume that was not made from one, or whose Image is gone.
    None,
    /// It is named, and not known here.
    Unknown,
    /// It is known.
    Known(Arc<Image>),
}

impl BootImage {
    /// That of an Instance.
    pub fn of(host: &Host, instance: &Instance) -> Self {
        let own = instance.namespace().unwrap_or_default();
        let named = |image| host.stores.named_image(&own, image);
        // The image that it was made from, while spec names another one for a rebuild.
        let told = instance.status.as_ref().and_then(|status| status.image.as_ref());
        match (told.or(instance.spec.image.as_ref()), &instance.spec.boot_volume) {
            (Some(image), _) => named(image).map_or(Self::Unknown, Self::Known),
            (None, Some(boot)) => match host.stores.volume(&own, boot) {
                None => Self::Unknown,
                Some(volume) => {
                    let source = volume.spec.source.as_ref();
                    let image = source.and_then(|source| named(&source.image));
                    image.map_or(Self::None, Self::Known)
                }
            },
            (None, None) => Self::None,
        }
    }

    /// That of an Instance that boots from a disk of this image.
    pub fn named(host: &Host, instance: &Instance, image: &ImageRef) -> Self {
        let own = instance.namespace().unwrap_or_default();
        let found = host.stores.named_image(&own, image);
        found.map_or(Self::Unknown, Self::Known)
    }

    /// The Image, if it is known.
    pub fn known(self) -> Option<Arc<Image>> {
        match self {
            Self::Known(image) => Some(image),
            Self::None | Self::Unknown => None,
        }
    }
}
