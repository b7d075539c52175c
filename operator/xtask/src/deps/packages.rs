//! The Debian packages that building and testing need, and which of them are missing.

use super::release::Release;

/// From the release itself.
const FROM_RELEASE: [&str; 36] = [
    // Building: crate ring compiles C; crate virt finds libvirt by pkg-config.
    "ca-certificates",
    "gcc",
    "libc6-dev",
    "make",
    "pkg-config",
    // The lab's nodes.
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "dmidecode",
    "dnsmasq-base",
    "ethtool",
    "iproute2",
    "iptables",
    "kmod",
    "nftables",
    "openvswitch-switch",
    "ovn-central",
    "ovn-host",
    "procps",
    "runc",
    "swtpm-tools",
    "util-linux",
    // Nova's scheduler, to compare ours with.
    "python3-venv",
    // The guest and what tests make for it.
    "busybox-static",
    "cpio",
    "dosfstools",
    "fdisk",
    "genisoimage",
    "libxml2-utils",
    "lz4",
    "mtools",
    "openssh-client",
    "ovmf",
    "syslinux",
    "syslinux-common",
    "xz-utils",
];

/// From the backports of a release that has them too old.
const FROM_BACKPORTS: [&str; 6] = [
    "libvirt-clients",
    "libvirt-daemon-driver-qemu",
    "libvirt-daemon-system",
    "libvirt-dev",
    "qemu-system-x86",
    "qemu-utils",
];

/// What is to be installed, sorted as listed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// From the release.
    pub release: Vec<&'static str>,
    /// From its backports; empty when it needs none.
    pub backports: Vec<&'static str>,
}

impl Missing {
    /// How many packages.
    pub fn count(&self) -> usize {
        self.release.len() + self.backports.len()
    }
}

/// All packages, to ask `dpkg-query` about.
pub fn all() -> impl Iterator<Item = &'static str> {
    FROM_RELEASE.into_iter().chain(FROM_BACKPORTS)
}

/// What is missing, by the answer of `dpkg-query -W -f '${Package} ${db:Status-Status} ${Version}\n'`.
pub fn missing(answer: &str, release: Release) -> Missing {
    let version = |package: &str| {
        answer.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let installed = words.next()? == package && words.next()? == "installed";
            words.next().filter(|_| installed)
        })
    };
    let absent = |package: &&str| version(package).is_none();
    let mut missing = Missing {
        release: FROM_RELEASE.into_iter().filter(absent).collect(),
        ..Missing::default()
    };
    match release.backports_mark() {
        // One from the release proper is too old, and so as good as none.
        Some(mark) => {
            let absent = |package: &&str| version(package).is_none_or(|version| !version.contains(mark));
            missing.backports = FROM_BACKPORTS.into_iter().filter(absent).collect();
        }
        None => missing.release.extend(FROM_BACKPORTS.into_iter().filter(absent)),
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(version: &str) -> String {
        all()
            .map(|package| [package, " installed ", version, "\n"].concat())
            .collect()
    }

    #[test]
    fn nothing_is_missing_when_all_is_installed_from_the_right_place() {
        assert_eq!(
            missing(&installed("10.0.2-2~bpo12+1"), Release::Bookworm),
            Missing::default()
        );
        assert_eq!(missing(&installed("10.0.2-2"), Release::Trixie), Missing::default());
    }

    #[test]
    fn an_old_libvirt_is_replaced_from_backports_on_debian_12() {
        let missing = missing(&installed("9.0.0-4"), Release::Bookworm);
        assert_eq!(
            missing,
            Missing {
                release: Vec::new(),
                backports: FROM_BACKPORTS.to_vec()
            }
        );
    }

    #[test]
    fn on_debian_13_everything_comes_from_the_release() {
        let missing = missing("", Release::Trixie);
        assert_eq!((missing.release.len(), missing.backports.len()), (42, 0));
    }

    #[test]
    fn a_package_that_was_removed_but_not_purged_is_missing() {
        let answer = installed("1~bpo12").replace("lz4 installed", "lz4 config-files");
        assert_eq!(missing(&answer, Release::Bookworm).release, ["lz4"]);
    }
}
