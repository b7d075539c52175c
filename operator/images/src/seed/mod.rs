//! The NoCloud seed: a small disk that tells cloud-init in the guest its name, keys, network and user data.
//!
//! The format is cloud-init's NoCloud data source: a file system labelled `cidata` with `meta-data`, `user-data` and, if
//! needed, `vendor-data` and `network-config` (version 2). It is an ISO 9660 image with Joliet and Rock Ridge names, so
//! Linux and Windows guests read it.
//!
//! Give it to the guest as a virtio disk, read only and raw. A SATA CD-ROM can appear after cloud-init has looked.

mod iso;
mod network;
mod yaml;

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    net::IpAddr,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use sha2::{Digest as _, Sha256};

use crate::{Digest, durable};

/// The largest user data in bytes, OpenStack's limit.
pub const MAX_USER_DATA: usize = 64 * 1024;
/// The most SSH keys.
pub const MAX_SSH_KEYS: usize = 64;
/// The longest SSH key in bytes; an RSA key of 16,384 bits takes 2.8 KiB.
pub const MAX_SSH_KEY: usize = 8 * 1024;
/// The most interfaces: eight cards, each with sixteen VLANs.
pub const MAX_INTERFACES: usize = 8 * 17;
/// The most entries of the user's metadata.
pub const MAX_METADATA: usize = 64;
/// The longest key of the user's metadata in characters, Nova's limit.
pub const MAX_METADATA_KEY: usize = 255;
/// The longest value of the user's metadata in characters.
pub const MAX_METADATA_VALUE: usize = 1024;

/// The volume label that cloud-init looks for.
pub const LABEL: &str = "cidata";

/// What a guest is told.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Seed {
    /// Who the guest is. When it changes, cloud-init runs as on a first boot. Letters, digits, `.`, `_` and `-`.
    pub instance_id: String,
    /// The host name (RFC 1123).
    pub hostname: String,
    /// Lines for `authorized_keys` of the image's default user.
    pub ssh_keys: Vec<String>,
    /// The user's free map. In the guest it is `ds.meta_data.meta` of cloud-init's instance data, as it is in an
    /// OpenStack cloud, so templates and scripts work in both.
    pub metadata: BTreeMap<String, String>,
    /// Given to the guest byte for byte. Empty is the same as none.
    pub user_data: Option<Vec<u8>>,
    /// The network. When there are none, cloud-init tries DHCP on the first interface that it finds.
    pub interfaces: Vec<Interface>,
}

/// User data and metadata may hold passwords, so only their lengths are shown.
impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seed")
            .field("instance_id", &self.instance_id)
            .field("hostname", &self.hostname)
            .field("ssh_keys", &self.ssh_keys.len())
            .field("metadata", &self.metadata.len())
            .field("user_data_bytes", &self.user_data.as_ref().map(Vec::len))
            .field("interfaces", &self.interfaces)
            .finish()
    }
}

/// How one interface of the guest is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Which one, by its MAC address: `fa:16:3e:00:00:01`. A VLAN is given it.
    pub mac: String,
    /// The VLAN that it is, which the guest makes; none for a card.
    pub vlan: Option<Vlan>,
    /// The name that the guest gives it; none leaves the name alone, and calls a VLAN after what it is made of.
    pub name: Option<String>,
    /// Whether to ask for an IPv4 address.
    pub dhcp4: bool,
    /// Whether to ask for an IPv6 address.
    pub dhcp6: bool,
    /// Whether it makes its IPv6 address of what routers advertise.
    pub accept_ra: bool,
    /// Fixed addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
    /// Routes; the default route is to 0.0.0.0/0 or ::/0.
    pub routes: Vec<Route>,
    /// Largest packet in bytes; none leaves it to the guest and DHCP.
    pub mtu: Option<u32>,
    /// DNS servers.
    pub nameservers: Vec<IpAddr>,
    /// DNS search domains.
    pub search: Vec<String>,
}

/// Of which frames an interface is made: those of another one that have a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// The MAC address of the other one, which is a card.
    pub link: String,
    /// The tag, 1 to 4094.
    pub id: u16,
}

/// A route of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Which destinations.
    pub to: IpNet,
    /// The gateway; none for destinations on the link.
    pub via: Option<IpAddr>,
    /// Lower wins.
    pub metric: Option<u32>,
    /// The gateway is on the link though no address's prefix covers it.
    pub on_link: bool,
}

/// Why no seed can be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something that the user or the caller gave is out of bounds.
    #[error("the seed's {field} is invalid: {reason}")]
    Invalid {
        /// Which field, such as `ssh_keys[1]`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The image could not be put together.
    #[error("building the seed image")]
    Build(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The image could not be written.
    #[error("writing the seed {path}")]
    Write {
        /// Where to.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

/// A file in the seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedFile {
    /// Its name.
    pub name: &'static str,
    /// Its bytes.
    pub contents: Vec<u8>,
}

impl Seed {
    /// The files of the seed, checked and in order. The same seed gives the same bytes.
    pub fn files(&self) -> Result<Vec<SeedFile>, Error> {
        self.check()?;
        let mut meta_data = yaml::Mapping::default();
        meta_data.scalar("instance-id", &self.instance_id);
        meta_data.scalar("local-hostname", &self.hostname);
        meta_data.list("public-keys", &self.ssh_keys);
        // In a mapping of its own, no key of a stranger's can pass for one of ours.
        meta_data.mapping("meta", &self.metadata);
        // cloud-init adds the meta data's keys too; images that read only cloud-config need them here.
        let mut ours = yaml::Mapping::default();
        ours.scalar("hostname", &self.hostname);
        ours.list("ssh_authorized_keys", &self.ssh_keys);
        let ours = format!("#cloud-config\n{}", ours.text()).into_bytes();

        let mut files = vec![SeedFile {
            name: "meta-data",
            contents: meta_data.text().into_bytes(),
        }];
        match self.user_data.as_ref().filter(|data| !data.is_empty()) {
            Some(theirs) => {
                files.push(SeedFile {
                    name: "user-data",
                    contents: theirs.clone(),
                });
                // Vendor data has the lower rank, so the user's own words win.
                files.push(SeedFile {
                    name: "vendor-data",
                    contents: ours,
                });
            }
            None => files.push(SeedFile {
                name: "user-data",
                contents: ours,
            }),
        }
        if !self.interfaces.is_empty() {
            files.push(SeedFile {
                name: "network-config",
                contents: network::config(&self.interfaces)?,
            });
        }
        Ok(files)
    }

    /// Names the content. The image itself holds times, so its bytes differ from run to run; this does not.
    pub fn key(&self) -> Result<Digest, Error> {
        Ok(key(&self.files()?))
    }

    /// The image. It carries its key as the volume set's name.
    pub fn iso(&self) -> Result<Vec<u8>, Error> {
        let files = self.files()?;
        let key = key(&files);
        iso::build(files, &key.hex())
    }

    /// Writes the image to `path`, whole or not at all, readable by its owner only. Blocks for the disk.
    ///
    /// Returns whether it was written: a seed with the same content is left alone, as a guest may be reading it.
    pub fn write(&self, path: &Path) -> Result<bool, Error> {
        let files = self.files()?;
        let key = key(&files);
        if is_there(path, &key) {
            return Ok(false);
        }
        let image = iso::build(files, &key.hex())?;
        durable::write(path, &image, 0o600).map_err(|source| Error::Write {
            path: path.to_owned(),
            source,
        })?;
        Ok(true)
    }

    fn check(&self) -> Result<(), Error> {
        let in_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if !(1..=128).contains(&self.instance_id.len()) || !self.instance_id.bytes().all(in_id) {
            return Err(Error::invalid(
                "instance_id",
                "expected 1 to 128 letters, digits, dots, dashes or underscores",
            ));
        }
        if !is_host_name(&self.hostname) {
            return Err(Error::invalid("hostname", "it is no host name (RFC 1123)"));
        }
        if self.ssh_keys.len() > MAX_SSH_KEYS {
            return Err(Error::invalid(
                "ssh_keys",
                format!("there are more than {MAX_SSH_KEYS}"),
            ));
        }
        for (index, key) in self.ssh_keys.iter().enumerate() {
            let field = format!("ssh_keys[{index}]");
            // A line break would smuggle in a second key, or options.
            if key.chars().any(char::is_control) {
                return Err(Error::invalid(
                    field,
                    "it has a line break or another control character",
                ));
            }
            if key.trim().is_empty() || key.len() > MAX_SSH_KEY {
                return Err(Error::invalid(field, format!("expected 1 to {MAX_SSH_KEY} bytes")));
            }
        }
        self.check_metadata()?;
        if self.user_data.as_ref().is_some_and(|data| data.len() > MAX_USER_DATA) {
            return Err(Error::invalid(
                "user_data",
                format!("it is longer than {MAX_USER_DATA} bytes"),
            ));
        }
        if self.interfaces.len() > MAX_INTERFACES {
            return Err(Error::invalid(
                "interfaces",
                format!("there are more than {MAX_INTERFACES}"),
            ));
        }
        Ok(())
    }

    fn check_metadata(&self) -> Result<(), Error> {
        if self.metadata.len() > MAX_METADATA {
            return Err(Error::invalid(
                "metadata",
                format!("there are more than {MAX_METADATA} entries"),
            ));
        }
        for (key, value) in &self.metadata {
            // The key itself is not told: it may be what makes a message unreadable.
            if !(1..=MAX_METADATA_KEY).contains(&key.chars().count()) {
                return Err(Error::invalid(
                    "metadata",
                    format!("a key has not 1 to {MAX_METADATA_KEY} characters"),
                ));
            }
            if value.chars().count() > MAX_METADATA_VALUE {
                return Err(Error::invalid(
                    format!("metadata[{key:?}]"),
                    format!("it has more than {MAX_METADATA_VALUE} characters"),
                ));
            }
        }
        Ok(())
    }
}

/// The digest of names and contents, each behind its length so that none can pass for another.
fn key(files: &[SeedFile]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(b"virga seed 1");
    for file in files {
        for part in [file.name.as_bytes(), &file.contents] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
    }
    Digest::finish(hasher)
}

fn is_there(path: &Path, key: &Digest) -> bool {
    let read = || {
        let mut file = File::open(path)?;
        let mut found = [0; 64];
        file.seek(SeekFrom::Start(iso::VOLUME_SET))?;
        file.read_exact(&mut found)?;
        io::Result::Ok(found)
    };
    read().is_ok_and(|found| found == *key.hex().as_bytes())
}

/// Labels of 1 to 63 letters, digits and inner dashes, 253 bytes in all.
fn is_host_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

#[cfg(test)]
mod tests;
