//! AggregateImagePropertiesIsolation: where the host's aggregates say something of a property that the image has, they
//! say the same.
//!
//! Nova: `nova/scheduler/filters/aggregate_image_properties_isolation.py`. Keys that are no property of the image are left
//! alone. Nova knows a fixed list of properties; here every property of the image counts.

use super::{Filter, Why, by_aggregates};
use crate::bits::Bits;
use crate::cohort::Cohort;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct AggregateImagePropertiesIsolation;

impl Filter for AggregateImagePropertiesIsolation {
    fn name(&self) -> &'static str {
        "AggregateImagePropertiesIsolation"
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::AGGREGATES
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        ask.request
            .image
            .as_ref()
            .is_some_and(|image| !image.properties.is_empty())
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        by_aggregates(host, |cohort| passes(cohort, ask))
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        hosts.cohorts().keep(left, |cohort| passes(cohort, ask));
    }
}

fn passes(cohort: &Cohort, ask: &Ask<'_>) -> bool {
    let Some(image) = &ask.request.image else { return true };
    image
        .properties
        .iter()
        .all(|(key, value)| value.is_empty() || cohort.metadata.get(key).is_none_or(|values| values.contains(value)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::fixtures::{aggregate, request, verdict_in};
    use crate::{ImageFacts, Request};

    const NAME: &str = "AggregateImagePropertiesIsolation";

    fn image(properties: &[(&str, &str)]) -> Request {
        let owned = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
        let image = ImageFacts {
            uid: "image".to_owned(),
            properties: properties.iter().map(owned).collect(),
        };
        Request {
            image: Some(Arc::new(image)),
            ..request()
        }
    }

    #[test]
    fn a_property_that_both_name_must_be_among_the_values() {
        let aggregates = [
            aggregate("a", &["node-1"], &[("os_distro", "debian, ubuntu")]),
            aggregate("b", &["node-1"], &[("os_distro", "alpine")]),
        ];
        for distro in ["debian", "ubuntu", "alpine"] {
            assert_eq!(verdict_in(NAME, &aggregates, &image(&[("os_distro", distro)])), Ok(()));
        }
        assert_eq!(
            verdict_in(NAME, &aggregates, &image(&[("os_distro", "windows")])),
            Err(format!("0/1 hosts: 1 {NAME}"))
        );
    }

    #[test]
    fn what_only_one_of_them_names_does_not_matter() {
        let aggregates = [aggregate("a", &["node-1"], &[("os_distro", "debian"), ("ssd", "true")])];
        assert_eq!(
            verdict_in(NAME, &aggregates, &image(&[("hw_disk_bus", "virtio")])),
            Ok(())
        );
        assert_eq!(
            verdict_in(NAME, &aggregates, &image(&[("os_distro", "")])),
            Ok(()),
            "as in Nova"
        );
        assert_eq!(verdict_in(NAME, &aggregates, &request()), Ok(()), "no image");
    }
}
