//! Which images may go when room is needed?

use std::{collections::HashSet, path::Path};

use kube::ResourceExt;
use virga_crds::ImageRef;
use virga_images::{
    Digest, Format,
    cache::{self, Evicted},
};
use virga_runtime::class::chain;

use super::images::Images;
use crate::layout::Layout;

impl Images {
    /// Makes room, when the cache is too large or the disk too full. What a disk here lies over, or an Instance here
    /// names, stays. What was made of Instances goes with its Image: nobody can ask for it any more.
    pub async fn evict(&self) {
        let pins = self.pins().await;
        let images = self.shared.stores.images.state();
        let alive = images.iter().filter_map(|image| image.uid()).collect();
        let gone = self.shared.cache.forget_adopted(&alive, pins.clone()).await;
        self.told(gone);
        self.told(self.shared.cache.evict(pins).await);
    }

    fn told(&self, evicted: Result<Evicted, cache::Error>) {
        match evicted {
            Ok(Evicted { digests, .. }) if digests.is_empty() => {}
            Ok(Evicted { digests, bytes }) => {
                tracing::info!(images = digests.len(), bytes, "evicted images");
                self.tell(None);
            }
            Err(error) => tracing::warn!(error = chain(&error), "evicting images"),
        }
    }

    async fn pins(&self) -> HashSet<Digest> {
        let mut pins = bases(&self.shared.layout).await;
        let images = self.shared.stores.images.state();
        let only = images
            .iter()
            .filter(|image| virga_core::image::must_keep(image, &self.shared.node));
        pins.extend(only.filter_map(|image| self.digest(image)));
        for instance in self.shared.stores.instances.state() {
            let own = instance.namespace().unwrap_or_default();
            let rescue = instance.spec.rescue.iter().filter_map(|rescue| rescue.image.as_ref());
            let shelved = instance
                .status
                .as_ref()
                .and_then(|status| status.shelve.as_ref()?.image.clone());
            let shelved = shelved.map(|name| ImageRef { name, namespace: None });
            for named in instance.spec.image.iter().chain(rescue).chain(&shelved) {
                let image = self.shared.stores.named_image(&own, named);
                pins.extend(image.and_then(|image| self.digest(&image)));
            }
        }
        pins
    }
}

/// The digests of all images that a disk of an Instance on this node lies over, from the links beside the disks.
async fn bases(layout: &Layout) -> HashSet<Digest> {
    let layout = layout.clone();
    let read = move || -> std::io::Result<HashSet<Digest>> {
        let mut bases = HashSet::new();
        for directory in std::fs::read_dir(layout.instances())? {
            // What isn't named by us is not ours.
            let name = directory?.file_name();
            let Some(uid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let links = layout.instance(uid).bases();
            bases.extend(links.iter().filter_map(|link| linked(link)));
        }
        // A guest that comes from another host has its image's link before its disk.
        for directory in std::fs::read_dir(layout.incoming())? {
            bases.extend(linked(&directory?.path().join("base")));
        }
        Ok(bases)
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(bases)) => bases,
        Ok(Err(error)) => {
            tracing::warn!(%error, "looking for images in use");
            HashSet::new()
        }
        Err(_) => HashSet::new(),
    }
}

/// The digest of the image that a link leads to.
fn linked(link: &Path) -> Option<Digest> {
    Some(base_of(&std::fs::read_link(link).ok()?)?.0)
}

/// The digest and the format in the name of a cached image's file: `sha256-<hex>.<format>`.
pub fn base_of(path: &Path) -> Option<(Digest, Format)> {
    let stem = path.file_stem()?.to_str()?;
    let format = path.extension()?.to_str()?.parse().ok()?;
    Some((stem.strip_prefix("sha256-")?.parse().ok()?, format))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_read_from_its_links_target() {
        let hex = "ab".repeat(32);
        let (digest, format) = base_of(Path::new(&format!("/images/sha256-{hex}.qcow2"))).unwrap();
        assert_eq!((digest.hex(), format), (hex, Format::Qcow2));
        assert_eq!(base_of(Path::new("/etc/passwd")), None);
    }
}
