//! Which Debian this is.

/// A release that the project can be built and tested on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Debian 12. Its libvirt and QEMU are too old: they come from backports.
    Bookworm,
    /// Debian 13. Everything is in the release.
    Trixie,
}

impl Release {
    /// From the text of `/etc/os-release`. The error is the system's own name for itself.
    pub fn parse(os_release: &str) -> Result<Self, String> {
        let value = |name: &str| {
            let line = os_release
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.map(|value| value.trim().trim_matches('"')).unwrap_or_default()
        };
        match (value("ID"), value("VERSION_CODENAME")) {
            ("debian", "bookworm") => Ok(Self::Bookworm),
            ("debian", "trixie") => Ok(Self::Trixie),
            _ => Err(if value("PRETTY_NAME").is_empty() {
                "an unknown system"
            } else {
                value("PRETTY_NAME")
            }
            .to_owned()),
        }
    }

    /// The name that its suites begin with.
    pub fn codename(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    /// What the version of a package from the backports of this release contains, if backports are needed.
    pub fn backports_mark(self) -> Option<&'static str> {
        match self {
            Self::Bookworm => Some("~bpo12"),
            Self::Trixie => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_12_needs_backports_and_debian_13_does_not() {
        let bookworm = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(Release::parse(bookworm), Ok(Release::Bookworm));
        assert!(Release::Bookworm.backports_mark().is_some());
        let trixie = "ID=debian\nVERSION_ID=\"13\"\nVERSION_CODENAME=\"trixie\"\n";
        assert_eq!(Release::parse(trixie), Ok(Release::Trixie));
        assert_eq!(Release::Trixie.backports_mark(), None);
    }

    #[test]
    fn another_system_is_refused_by_its_name() {
        let ubuntu = "PRETTY_NAME=\"Ubuntu 24.04 LTS\"\nID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n";
        assert_eq!(Release::parse(ubuntu), Err("Ubuntu 24.04 LTS".to_owned()));
        assert_eq!(Release::parse(""), Err("an unknown system".to_owned()));
    }
}
