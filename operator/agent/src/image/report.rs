//! What the Hypervisor's status says of the images.

use kube::ResourceExt;
use virga_core::instance::Cache as CacheState;
use virga_crds::{Bytes, CachedImage, CachedImageState, DiskFormat, Image};
use virga_images::Format;

use super::images::Images;

/// As many as the schema takes.
const MAX_IMAGES: usize = 512;

impl Images {
    /// Every Image that is in the cache or on its way, by uid.
    pub fn report(&self) -> Vec<CachedImage> {
        let images = self.shared.stores.images.state();
        let mut report: Vec<CachedImage> = images.iter().filter_map(|image| self.line(image)).collect();
        report.sort_by(|a, b| a.uid.cmp(&b.uid));
        report.truncate(MAX_IMAGES);
        report
    }

    fn line(&self, image: &Image) -> Option<CachedImage> {
        let mut line = CachedImage {
            uid: image.uid()?,
            state: CachedImageState::Pulling,
            progress: None,
            digest: None,
            size: None,
            virtual_size: None,
            format: None,
            message: None,
        };
        match self.state(image) {
            CacheState::Absent => return None,
            CacheState::Pulling(percent) => line.progress = percent.map(i32::from),
            CacheState::Cached { virtual_size } => {
                let entry = self.entry(image)?;
                line.state = CachedImageState::Cached;
                line.digest = Some(entry.digest.to_string());
                line.size = Some(Bytes(entry.inspection.size));
                line.virtual_size = Some(virtual_size);
                line.format = Some(match entry.inspection.format {
                    Format::Qcow2 => DiskFormat::Qcow2,
                    Format::Raw => DiskFormat::Raw,
                });
            }
            CacheState::Invalid(message) => {
                line.state = CachedImageState::Invalid;
                line.message = Some(cut(message));
            }
            CacheState::Unreachable(message) => {
                line.state = CachedImageState::Unreachable;
                line.message = Some(cut(message));
            }
        }
        Some(line)
    }
}

/// As long as the schema takes.
fn cut(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(1024));
    message
}
