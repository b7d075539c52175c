//! IsolatedHostsFilter: isolated images run on isolated hosts only, and unless told otherwise the other way round.
//!
//! Nova: `nova/scheduler/filters/isolated_hosts_filter.py` with `isolated_hosts`, `isolated_images` and
//! `restrict_isolated_hosts_to_isolated_images`.

use super::{Filter, Why, keep_slots};
use crate::bits::Bits;
use crate::hosts::Hosts;
use crate::{Ask, Aspects, Candidate};

/// See the module.
#[derive(Debug)]
pub(super) struct IsolatedHostsFilter;

impl Filter for IsolatedHostsFilter {
    fn name(&self) -> &'static str {
        "IsolatedHostsFilter"
    }

    fn reads(&self, _ask: &Ask<'_>) -> Aspects {
        Aspects::NONE
    }

    fn check<'a>(&self, host: Candidate<'a>, ask: &Ask<'a>) -> Result<(), Why<'a>> {
        let isolated = host
            .host()
            .is_some_and(|facts| ask.options.isolated_hosts.contains(&facts.name));
        match place(ask) {
            Place::Isolated if !isolated => Err(Why::PLAIN),
            Place::Ordinary if isolated => Err(Why::PLAIN),
            _ => Ok(()),
        }
    }

    fn sweep(&self, hosts: &Hosts, ask: &Ask<'_>, left: &mut Bits) {
        let isolated = ask.options.isolated_hosts.iter().filter_map(|name| hosts.find(name));
        match place(ask) {
            Place::Any => {}
            Place::Isolated => keep_slots(hosts, &isolated.collect::<Vec<_>>(), left),
            Place::Ordinary => {
                for slot in isolated {
                    left.set(slot, false);
                }
            }
        }
    }
}

/// Where a request may go.
enum Place {
    Any,
    Isolated,
    Ordinary,
}

fn place(ask: &Ask<'_>) -> Place {
    let restrict = ask.options.restrict_isolated_hosts_to_isolated_images;
    let images = &ask.options.isolated_images;
    match &ask.request.image {
        Some(image) if images.contains(&image.uid) => Place::Isolated,
        _ if restrict => Place::Ordinary,
        _ => Place::Any,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use crate::fixtures::{ask, host, only_with, request};
    use crate::{ImageFacts, Options, Request};

    const NAME: &str = "IsolatedHostsFilter";

    fn image(uid: &str) -> Request {
        let image = ImageFacts {
            uid: uid.to_owned(),
            ..ImageFacts::default()
        };
        Request {
            image: Some(Arc::new(image)),
            ..request()
        }
    }

    fn passes(hosts: &[&str], images: &[&str], restrict: bool, request: &Request) -> bool {
        let set = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        let options = Options {
            isolated_hosts: set(hosts),
            isolated_images: set(images),
            restrict_isolated_hosts_to_isolated_images: restrict,
            ..Options::default()
        };
        let mut cluster = only_with(&options, NAME);
        cluster.upsert_host(host());
        ask(&cluster, request).is_ok()
    }

    #[test]
    fn isolated_images_and_hosts_keep_to_each_other() {
        for (hosts, image_uid, expected) in [
            (["node-1"], "secret", true),
            (["node-1"], "plain", false),
            (["node-2"], "secret", false),
            (["node-2"], "plain", true),
        ] {
            assert_eq!(
                passes(&hosts, &["secret"], true, &image(image_uid)),
                expected,
                "{hosts:?} {image_uid}"
            );
        }
        assert!(
            !passes(&["node-1"], &["secret"], true, &request()),
            "no image is none of them"
        );
    }

    #[test]
    fn unrestricted_hosts_take_other_images_as_well() {
        assert!(passes(&["node-1"], &["secret"], false, &image("plain")));
        assert!(!passes(&["node-2"], &["secret"], false, &image("secret")));
    }

    #[test]
    fn without_isolated_images_isolated_hosts_take_nothing_or_anything() {
        assert!(!passes(&["node-1"], &[], true, &image("plain")));
        assert!(passes(&["node-1"], &[], false, &image("plain")));
        assert!(passes(&[], &[], true, &image("plain")));
    }
}
