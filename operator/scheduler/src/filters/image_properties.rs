//! ImagePropertiesFilter: the host can run the image's architecture.
//!
//! Nova: `nova/scheduler/filters/image_props_filter.py`, of which this is the part about `hw_architecture`.

use super::{Filter, Why};
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct ImagePropertiesFilter;

impl Filter for ImagePropertiesFilter {
    fn name(&self) -> &'static str {
        "ImagePropertiesFilter"
    }

    fn reads(&self) -> Aspects {
        Aspects::ARCHITECTURE
    }

    fn applies(&self, ask: &Ask<'_>) -> bool {
        ask.architecture.is_some()
    }

    #[inline]
    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        if ask.architecture.is_none_or(|wanted| wanted == host.architecture()) {
            Ok(())
        } else {
            Err(Why::PLAIN)
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Request;
    use crate::fixtures::{host, request, verdict};

    fn image_for(architecture: &str) -> Request {
        Request {
            architecture: Some(architecture.to_owned()),
            ..request()
        }
    }

    #[test]
    fn a_host_of_the_images_architecture_passes() {
        assert_eq!(verdict("ImagePropertiesFilter", host(), &image_for("x86_64")), Ok(()));
        assert_eq!(verdict("ImagePropertiesFilter", host(), &request()), Ok(()));
    }

    #[test]
    fn a_host_of_another_architecture_is_rejected() {
        assert_eq!(
            verdict("ImagePropertiesFilter", host(), &image_for("aarch64")),
            Err("0/1 hosts: 1 ImagePropertiesFilter".to_owned())
        );
    }
}
