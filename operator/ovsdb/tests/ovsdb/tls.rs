//! TLS with certificates on both sides, and TCP.

use std::{fs, net::TcpListener, path::Path};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use virga_ovsdb::{
    Client, Options,
    remote::Remote,
    tls::{ServerCheck, TlsFiles},
};

use crate::server::{Server, down, options, synced, text, tool};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "an authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes `NAME.pem` and `NAME.key`.
fn leaf(folder: &Path, name: &str, authority: &Authority, host: &str) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    // One with its authority's name would pass for signed by itself.
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.signed_by(&key, authority).unwrap();
    fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

struct Stage {
    folder: TempDir,
    ours: Authority,
    _server: Server,
    remote: Remote,
}

/// A server whose certificate is for a host.
fn stage(host: &str) -> Stage {
    let folder = TempDir::new().unwrap();
    let ours = authority();
    fs::write(folder.path().join("ca.pem"), ours.pem()).unwrap();
    leaf(folder.path(), "server", &ours, host);
    let file = |name: &str| text(&folder.path().join(name)).to_owned();
    let port = free_port();
    let server = Server::start_with(&[
        &format!("--remote=pssl:{port}:127.0.0.1"),
        &format!("--private-key={}", file("server.key")),
        &format!("--certificate={}", file("server.pem")),
        &format!("--ca-cert={}", file("ca.pem")),
    ]);
    Stage {
        folder,
        ours,
        _server: server,
        remote: format!("ssl:127.0.0.1:{port}").parse().unwrap(),
    }
}

impl Stage {
    fn client(&self, signer: &Authority, check: ServerCheck) -> Client {
        leaf(self.folder.path(), "client", signer, "virga");
        let file = |name: &str| self.folder.path().join(name);
        Client::start(Options {
            tls: Some(TlsFiles {
                authorities: file("ca.pem"),
                certificate: file("client.pem"),
                key: file("client.key"),
                check,
            }),
            ..options(vec![self.remote.clone()])
        })
    }
}

#[tokio::test]
async fn both_sides_show_certificates_and_renewed_ones_are_read() {
    let stage = stage("127.0.0.1");
    // At first ours is signed by somebody whom the server does not know.
    let client = stage.client(&authority(), ServerCheck::Name);
    let error = down(&client, "ssl:").await;
    assert!(!error.contains("reading"), "{error}");
    leaf(stage.folder.path(), "client", &stage.ours, "virga");
    synced(&client).await;
}

#[tokio::test]
async fn a_server_for_another_host_is_refused_unless_only_its_authority_counts() {
    let stage = stage("elsewhere.example.org");
    down(&stage.client(&stage.ours, ServerCheck::Name), "agreeing on TLS").await;
    synced(&stage.client(&stage.ours, ServerCheck::Authority)).await;
    // Of another authority it is refused in any case.
    fs::write(stage.folder.path().join("ca.pem"), authority().pem()).unwrap();
    down(&stage.client(&stage.ours, ServerCheck::Authority), "agreeing on TLS").await;
}

#[tokio::test]
async fn missing_certificates_are_told() {
    let stage = stage("127.0.0.1");
    let client = Client::start(options(vec![stage.remote.clone()]));
    down(&client, "no certificates are configured").await;
    fs::remove_file(stage.folder.path().join("ca.pem")).unwrap();
    down(
        &stage.client(&stage.ours, ServerCheck::Name),
        "reading authorities from",
    )
    .await;
}

#[tokio::test]
async fn tcp_works_too() {
    let port = free_port();
    let _server = Server::start_with(&[&format!("--remote=ptcp:{port}:127.0.0.1")]);
    let remote = format!("tcp:127.0.0.1:{port}").parse().unwrap();
    synced(&Client::start(options(vec![remote]))).await;
}

#[tokio::test]
async fn certificates_that_ovs_pki_made_will_do() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    // As its manual says; it works in the current folder.
    let script = "cd \"$0\" && ovs-pki --dir=pki init && ovs-pki --dir=pki req+sign nb switch";
    tool("sh", &["-c", script, text(folder.path())]);
    let port = free_port();
    let authorities = at("pki/switchca/cacert.pem");
    let _server = Server::start_with(&[
        &format!("--remote=pssl:{port}:127.0.0.1"),
        &format!("--private-key={}", at("nb-privkey.pem")),
        &format!("--certificate={}", at("nb-cert.pem")),
        &format!("--ca-cert={authorities}"),
    ]);
    // By a name and by an address: names are compared in different ways.
    for host in ["localhost", "127.0.0.1"] {
        let client = Client::start(Options {
            tls: Some(TlsFiles {
                authorities: authorities.clone().into(),
                certificate: at("nb-cert.pem").into(),
                key: at("nb-privkey.pem").into(),
                check: ServerCheck::Authority,
            }),
            ..options(vec![format!("ssl:{host}:{port}").parse().unwrap()])
        });
        synced(&client).await;
    }
}
