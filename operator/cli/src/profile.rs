//! By which rules is decided? The controller's standard profile, or one that is given in a file.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use virga_controller::scheduling::{HostDefaults, profile, profile_file};
use virga_scheduler::{Profile, ProfileError, Ratio, Ratios};

/// A profile is a page at most.
const MOST_BYTES: u64 = 1 << 20;

/// A profile with what it is called in what is printed.
#[derive(Debug, Clone)]
pub struct Named {
    /// `standard`, or the file's name.
    pub name: String,
    /// The rules.
    pub profile: Profile,
}

/// Why a profile can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("reading the profile {}", path.display())]
    Read {
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no profile.
    #[error("reading the profile {}", path.display())]
    Parse {
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: profile_file::Error,
    },
    /// It names what there is not, or has wrong numbers.
    #[error("using the profile {}:\n  {}", path.display(), lines(errors))]
    Resolve {
        /// Where it is.
        path: PathBuf,
        /// All that is wrong.
        errors: Vec<ProfileError>,
    },
}

fn lines(errors: &[ProfileError]) -> String {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n  ")
}

/// How many times over hosts are promised whose Hypervisor says nothing: flags as the controller has them.
#[derive(Debug, Clone, clap::Args)]
pub struct RatioArgs {
    /// How many times over the CPUs of a host are promised, unless its Hypervisor says otherwise
    #[arg(long, value_name = "RATIO", default_value = "4.0")]
    pub cpu_allocation_ratio: Ratio,

    /// How many times over the memory of a host is promised, unless its Hypervisor says otherwise
    #[arg(long, value_name = "RATIO", default_value = "1.0")]
    pub ram_allocation_ratio: Ratio,

    /// How many times over the disk of a host is promised, unless its Hypervisor says otherwise
    #[arg(long, value_name = "RATIO", default_value = "1.0")]
    pub disk_allocation_ratio: Ratio,
}

impl From<RatioArgs> for HostDefaults {
    fn from(args: RatioArgs) -> Self {
        let ratios = Ratios {
            vcpus: args.cpu_allocation_ratio,
            memory: args.ram_allocation_ratio,
            disk: args.disk_allocation_ratio,
        };
        Self { ratios }
    }
}

/// The profile of a controller that was told nothing else.
pub fn standard() -> Named {
    Named {
        name: "standard".into(),
        profile: Profile::resolve(&profile::standard()).unwrap_or_default(),
    }
}

/// The profile in a file, which is the one that a controller is given: what it leaves out is as in the standard one.
pub fn read(path: &Path) -> Result<Named, Error> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text))
        .map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
    let profile = parse(&text).map_err(|error| match error {
        profile_file::Error::Profile(errors) => Error::Resolve {
            path: path.to_owned(),
            errors,
        },
        source => Error::Parse {
            path: path.to_owned(),
            source,
        },
    })?;
    Ok(Named {
        name: path.display().to_string(),
        profile,
    })
}

/// A profile's text, read as the controller reads it.
pub fn parse(text: &str) -> Result<Profile, profile_file::Error> {
    let spec = profile_file::parse(text)?;
    Profile::resolve(&spec).map_err(profile_file::Error::Profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_s_errors_are_told_all_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("profile.yaml");
        std::fs::write(&path, "filters: [RamFilter, HamFilter, TrustedFilter]\n").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(
            error.contains("\"HamFilter\"") && error.contains("TrustedFilter can't be used"),
            "{error}"
        );
        std::fs::write(&path, "strategi: Pack\n").unwrap();
        assert!(matches!(read(&path), Err(Error::Parse { .. })));
        std::fs::write(&path, "strategy: Pack\n").unwrap();
        assert!(
            read(&path)
                .unwrap()
                .profile
                .weighers()
                .any(|(name, by)| name == "RAMWeigher" && by < 0.0)
        );
    }
}
