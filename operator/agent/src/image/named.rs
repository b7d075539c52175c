//! What is there of the image that an object names?

use kube::ResourceExt;
use virga_core::instance::{Cache, Image as ImageSeen};
use virga_crds::{ImageRef, ImageVisibility};

use super::images::Images;

impl Images {
    /// An Image that an object of namespace `own` names.
    pub fn seen(&self, own: &str, named: &ImageRef) -> ImageSeen {
        let namespace = named.namespace.as_deref().unwrap_or(own);
        let place = if namespace == own {
            String::new()
        } else {
            format!(" in project {namespace}")
        };
        let Some(image) = self.shared.stores.named_image(own, named) else {
            return ImageSeen::NotFound(format!("there is no Image {:?}{place}: create it", named.name));
        };
        if namespace != own && image.spec.visibility != ImageVisibility::Public {
            // The same words as for one that doesn't exist: a private image's name is nobody else's business.
            return ImageSeen::NotFound(format!("there is no Image {:?}{place}: create it", named.name));
        }
        if image.metadata.deletion_timestamp.is_some() && self.state(&image) == Cache::Absent {
            return ImageSeen::NotFound(format!("the Image {}{place} is being deleted", named.name));
        }
        ImageSeen::Known {
            uid: image.uid().unwrap_or_default(),
            min_disk: image.spec.min_disk,
            min_memory: image.spec.min_memory,
            cache: self.state(&image),
        }
    }
}
