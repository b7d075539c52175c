//! ImagePropertiesWeigher: Instances on the host whose images have properties in common with the request's.
//!
//! Nova: `nova/scheduler/weights/image_props.py` with `image_props_weight_setting`. The multiplier is 0 unless told; a
//! positive one brings like to like, for example to need fewer licences. Instances count from the moment that a profile
//! with a multiplier is in use.

use super::Weigher;
use crate::{Ask, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct ImagePropertiesWeigher;

impl Weigher for ImagePropertiesWeigher {
    fn name(&self) -> &'static str {
        "ImagePropertiesWeigher"
    }

    fn multiplier_key(&self) -> &'static str {
        "image_props_weight_multiplier"
    }

    fn default_multiplier(&self) -> f64 {
        0.0
    }

    fn reads_images(&self) -> bool {
        true
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        ask.request
            .image
            .as_ref()
            .is_some_and(|image| !image.properties.is_empty())
    }

    fn measure(&self, host: Candidate<'_>, ask: &Ask<'_>) -> f64 {
        let Some(wanted) = &ask.request.image else { return 0.0 };
        let weights = &ask.options.image_properties_weights;
        let counts = |key: &String| {
            if weights.is_empty() {
                1.0
            } else {
                weights.get(key).copied().unwrap_or(0.0)
            }
        };
        let images = host.used().images.iter();
        images
            .map(|(image, count)| {
                let common = image
                    .properties
                    .iter()
                    .filter(|(key, value)| wanted.properties.get(*key) == Some(*value));
                f64::from(*count) * common.map(|(key, _)| counts(key)).sum::<f64>()
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::fixtures::{best, named, request, weighing_with};
    use crate::{Claim, ImageFacts, Options, Request, Resources, Uid};

    fn image(properties: &[(&str, &str)]) -> Arc<ImageFacts> {
        let owned = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
        Arc::new(ImageFacts {
            uid: "image".to_owned(),
            properties: properties.iter().map(owned).collect(),
        })
    }

    /// Two Windows Instances on `node-1`, one Linux Instance on `node-2`; a request for Windows.
    fn weights(options: &Options) -> Vec<(&'static str, f64)> {
        let windows = image(&[("os_type", "windows"), ("hw_disk_bus", "virtio")]);
        let linux = image(&[("os_type", "linux"), ("hw_disk_bus", "virtio")]);
        let hosts = ["node-1", "node-2", "node-3"].map(named);
        let mut cluster = weighing_with(options, "ImagePropertiesWeigher", 1.0, &hosts);
        for (uid, host, image) in [
            ("a", "node-1", &windows),
            ("b", "node-1", &windows),
            ("c", "node-2", &linux),
        ] {
            let nothing = Resources::default();
            let claim = Claim {
                image: Some(image),
                ..Claim::new(host, &nothing)
            };
            cluster.place_claim(&Uid::from(uid), &claim);
        }
        let request = Request {
            image: Some(windows),
            ..request()
        };
        best(&cluster, &request)
    }

    #[test]
    fn every_property_in_common_counts_for_every_instance() {
        // 4, 1 and 0 properties in common.
        assert_eq!(
            weights(&Options::default()),
            [("node-1", 1.0), ("node-2", 0.25), ("node-3", 0.0)]
        );
    }

    #[test]
    fn a_setting_says_which_properties_count() {
        let mut options = Options::default();
        options.image_properties_weights.insert("os_type".to_owned(), 2.0);
        let weights = weights(&options);
        assert_eq!(weights[0], ("node-1", 1.0));
        assert!(weights[1..].iter().all(|&(_, weight)| weight == 0.0), "{weights:?}");
    }
}
