//! The keys and certificates of one cluster: new for each, gone with it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::json;

/// Keys, certificates or kubeconfigs could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key or certificate could not be made.
    #[error("making the certificate of {name}")]
    Certificate {
        /// Whose.
        name: String,
        /// Why.
        source: rcgen::Error,
    },
    /// A file could not be written.
    #[error("writing {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A certificate authority that signs everything in one cluster: servers, clients, and through the controller manager
/// what asks with a CertificateSigningRequest.
pub struct Authority {
    folder: PathBuf,
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Who a client is to the apiserver.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The user name.
    pub user: &'a str,
    /// The group, if it needs one.
    pub group: Option<&'a str>,
}

impl Authority {
    /// Makes the authority (`ca.crt`, `ca.key`) and the key pair that signs service account tokens (`sa.key`,
    /// `sa.pub`) in a folder.
    pub fn create(folder: &Path) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(|source| Error::Io {
            path: folder.to_owned(),
            source,
        })?;
        let failed = |source| Error::Certificate {
            name: "the authority".to_owned(),
            source,
        };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params("virga-lab", None, &[]).map_err(failed)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).map_err(failed)?.pem();
        write(&folder.join("ca.crt"), &certificate)?;
        write(&folder.join("ca.key"), &key.serialize_pem())?;
        let accounts = KeyPair::generate().map_err(failed)?;
        write(&folder.join("sa.key"), &accounts.serialize_pem())?;
        write(&folder.join("sa.pub"), &accounts.public_key_pem())?;
        Ok(Self {
            folder: folder.to_owned(),
            certificate,
            issuer: Issuer::new(params, key),
        })
    }

    /// Makes the certificate and key of a server, `<name>.crt` and `<name>.key`.
    pub fn server(&self, name: &str, names: &[&str], addresses: &[IpAddr]) -> Result<(), Error> {
        let mut subject_names: Vec<String> = names.iter().map(ToString::to_string).collect();
        subject_names.extend(addresses.iter().map(ToString::to_string));
        let (certificate, key) = self.signed(
            Identity {
                user: name,
                group: None,
            },
            &subject_names,
        )?;
        write(&self.folder.join(format!("{name}.crt")), &certificate)?;
        write(&self.folder.join(format!("{name}.key")), &key)
    }

    /// Makes the certificate and key of a client that is not Kubernetes', `<name>.crt` and `<name>.key`.
    pub fn pair(&self, name: &str) -> Result<(), Error> {
        self.server(name, &[], &[])
    }

    /// Makes the certificate and key of a client, `<name>.crt` and `<name>.key`, and writes a kubeconfig that needs no
    /// other file.
    pub fn client(&self, name: &str, who: Identity<'_>, server: &str, kubeconfig: &Path) -> Result<(), Error> {
        let (certificate, key) = self.signed(who, &[])?;
        write(&self.folder.join(format!("{name}.crt")), &certificate)?;
        write(&self.folder.join(format!("{name}.key")), &key)?;
        // JSON is YAML.
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "virga-lab", "cluster": {
                "server": server,
                "certificate-authority-data": STANDARD.encode(&self.certificate),
            }}],
            "users": [{"name": name, "user": {
                "client-certificate-data": STANDARD.encode(&certificate),
                "client-key-data": STANDARD.encode(&key),
            }}],
            "contexts": [{"name": "virga-lab", "context": {"cluster": "virga-lab", "user": name}}],
            "current-context": "virga-lab",
        });
        write(kubeconfig, &format!("{config:#}\n"))
    }

    fn signed(&self, who: Identity<'_>, names: &[String]) -> Result<(String, String), Error> {
        let failed = |source| Error::Certificate {
            name: who.user.to_owned(),
            source,
        };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params(who.user, who.group, names).map_err(failed)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

fn params(user: &str, group: Option<&str>, names: &[String]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, user);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    Ok(params)
}

fn write(path: &Path, content: &str) -> Result<(), Error> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })
}
