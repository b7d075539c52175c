//! How are the guest's virtual CPUs arranged? Nova's `get_best_cpu_topology` (nova/virt/hardware.py).

use super::asked::{Asked, Counts};
use super::{key, property};
use crate::problem::Problems;

/// Sockets, cores in each, and threads in each of these: together all virtual CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpus {
    /// Sockets.
    pub sockets: u32,
    /// Cores in a socket.
    pub cores: u32,
    /// Threads in a core.
    pub threads: u32,
}

const NAMES: [&str; 3] = ["sockets", "cores", "threads"];

impl Counts {
    fn all(self) -> [Option<u32>; 3] {
        [self.sockets, self.cores, self.threads]
    }
}

/// The best arrangement of so many, or why there is none. Without wishes each CPU is a socket.
pub(super) fn cpus(vcpus: u32, flavor: &Asked, image: &Asked, problems: &mut Problems) -> Cpus {
    let before = problems.iter().count();
    let (of_flavor, of_image) = (flavor.most_cpus.all(), image.most_cpus.all());
    let mut most = [u32::MAX; 3];
    for (place, name) in NAMES.iter().enumerate() {
        let bound = of_flavor[place].unwrap_or(u32::MAX);
        most[place] = of_image[place].unwrap_or(bound);
        if most[place] > bound {
            let message = format!("is more than the Flavor's hw:cpu_max_{name}, {bound}: name another Flavor or Image");
            problems.add(property(&format!("cpu_max_{name}")), message);
        }
        if image.cpus.all()[place].is_some_and(|wished| wished > most[place]) {
            let message = format!(
                "is more than the {} that there may be: name another Flavor or Image",
                most[place]
            );
            problems.add(property(&format!("cpu_{name}")), message);
        }
    }
    let within = |wished: Counts| {
        wished
            .all()
            .iter()
            .zip(most)
            .all(|(wished, most)| *wished <= Some(most))
    };
    let wished = match (image.cpus, flavor.cpus) {
        // One wish of the image's stands for all of the Flavor's.
        (of_image, _) if of_image != Counts::default() => of_image,
        (_, of_flavor) if within(of_flavor) => of_flavor,
        _ => Counts::default(),
    };
    // A Flavor has one at least.
    match best(vcpus.max(1), wished, most) {
        Some(best) => best,
        None if problems.iter().count() > before => Cpus::default(),
        None => {
            let (message, of_flavor) = (
                format!("leaves no way to arrange {vcpus} virtual CPUs: raise it"),
                flavor.most_cpus != Counts::default(),
            );
            let place = (0..3).find(|place| most[*place] != u32::MAX).unwrap_or(0);
            let name = format!("cpu_max_{}", NAMES[place]);
            problems.add(if of_flavor { key(&name) } else { property(&name) }, message);
            Cpus::default()
        }
    }
}

fn best(vcpus: u32, wished: Counts, most: [u32; 3]) -> Option<Cpus> {
    let divisors = |of: u32| (1..=of).filter(move |n| of.is_multiple_of(*n));
    let possible = divisors(vcpus).flat_map(|sockets| {
        let rest = vcpus / sockets;
        divisors(rest).map(move |cores| [sockets, cores, rest / cores])
    });
    let met = |counts: &[u32; 3]| {
        wished
            .all()
            .iter()
            .zip(counts)
            .filter(|(wish, is)| **wish == Some(**is))
            .count()
    };
    let best = possible
        .filter(|counts| counts.iter().zip(most).all(|(count, most)| *count <= most))
        // As many wishes as can be; then few threads, and sockets before cores.
        .max_by_key(|counts| (met(counts), counts[0] * counts[1], counts[0]));
    best.map(|[sockets, cores, threads]| Cpus {
        sockets,
        cores,
        threads,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> Asked {
        let mut asked = Asked::default();
        for (name, value) in pairs {
            asked.read_spec(&format!("hw:{name}"), value).unwrap().unwrap();
        }
        asked
    }

    fn arranged(vcpus: u32, flavor: &[(&str, &str)], image: &[(&str, &str)]) -> Result<(u32, u32, u32), String> {
        let mut problems = Problems::default();
        let found = cpus(vcpus, &asked(flavor), &asked(image), &mut problems);
        let found = (found.sockets, found.cores, found.threads);
        problems.or(|| found).map_err(|problems| problems.to_string())
    }

    /// Cases of Nova's `test_best_config` and `test_possible_topologies`.
    #[test]
    fn the_best_arrangement_is_nova_s() {
        for (vcpus, flavor, image, found) in [
            (8, &[][..], &[][..], (8, 1, 1)),
            (8, &[("cpu_sockets", "2")], &[], (2, 4, 1)),
            (8, &[("cpu_sockets", "2"), ("cpu_threads", "2")], &[], (2, 2, 2)),
            (8, &[("cpu_max_sockets", "2")], &[], (2, 4, 1)),
            (8, &[("cpu_max_sockets", "2"), ("cpu_max_cores", "2")], &[], (2, 2, 2)),
            (8, &[("cpu_sockets", "4")], &[("cpu_max_sockets", "2")], (2, 4, 1)),
            (8, &[("cpu_sockets", "4")], &[("cpu_cores", "8")], (1, 8, 1)),
            (7, &[("cpu_sockets", "2")], &[], (7, 1, 1)),
            (1, &[("cpu_threads", "2")], &[], (1, 1, 1)),
        ] {
            assert_eq!(
                arranged(vcpus, flavor, image),
                Ok(found),
                "{vcpus} {flavor:?} {image:?}"
            );
        }
    }

    #[test]
    fn an_image_can_only_lower_what_its_flavor_lets_it_have() {
        let said = arranged(8, &[("cpu_max_cores", "2")], &[("cpu_max_cores", "4")]).unwrap_err();
        assert!(
            said.starts_with("spec.properties[hw_cpu_max_cores]: is more than the Flavor's"),
            "{said}"
        );
        let said = arranged(8, &[("cpu_max_cores", "2")], &[("cpu_cores", "4")]).unwrap_err();
        assert!(
            said.starts_with("spec.properties[hw_cpu_cores]: is more than the 2"),
            "{said}"
        );
        let tight = [
            ("cpu_max_sockets", "1"),
            ("cpu_max_cores", "2"),
            ("cpu_max_threads", "2"),
        ];
        let said = arranged(8, &tight, &[]).unwrap_err();
        assert!(
            said.starts_with("spec.extraSpecs[hw:cpu_max_sockets]: leaves no way to arrange 8"),
            "{said}"
        );
        let said = arranged(8, &[], &tight).unwrap_err();
        assert!(
            said.starts_with("spec.properties[hw_cpu_max_sockets]: leaves no way"),
            "{said}"
        );
    }
}
