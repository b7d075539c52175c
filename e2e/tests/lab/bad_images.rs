//! Images that can't be used: each says why and what to do, and leaves nothing behind.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread;

use sha2::{Digest, Sha256};
use virga_crds::{
    Bytes, Checksum, ChecksumAlgorithm, FlavorSpec, HttpSource, Image, ImageSource, ImageState, Instance,
};
use virga_e2e::objects::{image, instance, tiny};
use virga_e2e::{BOUND, Case, Installation, condition, eventually, is_ready, ready_because, with_temp_namespace};
use virga_lab::Lab;

use crate::{GUEST, qemu_img};

/// A web server on the machine, at the address that the lab's nodes know it by. It ends with the process.
struct WebServer {
    address: SocketAddr,
}

impl WebServer {
    fn of(lab: &Lab, files: HashMap<&'static str, Vec<u8>>) -> Self {
        let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
        probe.connect((lab.nodes()[0].address(), 9)).unwrap();
        let listener = TcpListener::bind((probe.local_addr().unwrap().ip(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let files = Arc::new(files);
        thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                let files = files.clone();
                thread::spawn(move || {
                    let mut request = [0; 2048];
                    let length = connection.read(&mut request).unwrap_or_default();
                    let request = String::from_utf8_lossy(&request[..length]).into_owned();
                    let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
                    let (status, body) = match files.get(path) {
                        Some(body) => ("200 OK", body.as_slice()),
                        None => ("404 Not Found", b"".as_slice()),
                    };
                    let head = format!(
                        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        body.len()
                    );
                    // A client may hang up when it has seen enough.
                    let _ = connection
                        .write_all(head.as_bytes())
                        .and_then(|()| connection.write_all(body));
                });
            }
        });
        Self { address }
    }

    /// An Image of a file of this server. Its checksum is that of `bytes`.
    fn image(&self, name: &str, path: &str, bytes: &[u8]) -> Image {
        let mut image = image(name, "unused");
        image.spec.source = ImageSource {
            instance: None,
            path: None,
            http: Some(HttpSource {
                url: format!("http://{}/{path}", self.address),
                checksum: Checksum {
                    algorithm: ChecksumAlgorithm::Sha256,
                    value: hex(bytes),
                },
            }),
        };
        image
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

fn made_by_qemu_img(args: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("disk").to_string_lossy().into_owned();
    let args: Vec<&str> = args
        .iter()
        .map(|arg| if *arg == "FILE" { &file } else { *arg })
        .collect();
    qemu_img(&args);
    std::fs::read(file).unwrap()
}

/// It is refused for good: kstatus says Failed.
async fn assert_invalid(t: &Case, name: &str, words: &str) {
    let told = t
        .await_condition::<Image>(name, "ImageInvalid", ready_because("ImageInvalid", words))
        .await;
    assert_eq!(told.status.as_ref().unwrap().state, Some(ImageState::Error));
    assert_eq!(condition(&told, "Stalled").unwrap().status, "True");
    let judged = t.cluster.kstatus(&serde_yaml::to_string(&told).unwrap());
    assert_eq!(judged[0].status, "Failed", "{judged:?}");
}

#[tokio::test]
async fn bytes_that_are_no_good_are_refused_and_not_kept() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("serves images from this machine") else {
        return;
    };
    let good = made_by_qemu_img(&["create", "-q", "-f", "qcow2", "FILE", "8M"]);
    let backed = made_by_qemu_img(&[
        "create",
        "-q",
        "-u",
        "-f",
        "qcow2",
        "-F",
        "raw",
        "-b",
        "/etc/shadow",
        "FILE",
        "8M",
    ]);
    let text = b"this is a page that says that the image has moved".repeat(50);
    let server = WebServer::of(
        lab,
        HashMap::from([
            ("good", good.clone()),
            ("backed", backed.clone()),
            ("text", text.clone()),
        ]),
    );
    with_temp_namespace(&installation.cluster, async |t| {
        t.create(server.image("other-bytes", "good", b"other bytes")).await;
        t.create(server.image("backed", "backed", &backed)).await;
        t.create(server.image("text", "text", &text)).await;
        t.create(server.image("good", "good", &good)).await;
        assert_invalid(&t, "other-bytes", "sha256").await;
        assert_invalid(&t, "backed", "backing file").await;
        assert_invalid(&t, "text", "text file").await;
        let ready = t.await_condition::<Image>("good", "Ready", is_ready).await;
        let status = ready.status.unwrap();
        assert_eq!(status.digest, Some(format!("sha256:{}", hex(&good))));
        assert_eq!(status.virtual_size, Some(Bytes::mib(8)));
        // Nothing of the others is in any cache.
        for node in lab.nodes() {
            let cached = virga_e2e::on_node::run(&node, &["find", "/var/lib/virga/images", "-type", "f"]);
            for bytes in [&backed, &text] {
                assert!(!cached.contains(&hex(bytes)), "{cached}");
            }
        }
        for name in ["other-bytes", "backed", "text", "good"] {
            t.delete::<Image>(BOUND, name).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_image_that_can_not_be_fetched_is_tried_again() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("serves images from this machine") else {
        return;
    };
    let server = WebServer::of(lab, HashMap::new());
    with_temp_namespace(&installation.cluster, async |t| {
        t.create(server.image("missing", "missing", b"")).await;
        let told = t
            .await_condition::<Image>("missing", "not Ready, with a reason", |found| {
                condition(found, "Ready").is_some_and(|ready| ready.message.contains("404"))
            })
            .await;
        assert_ne!(condition(&told, "Ready").unwrap().status, "True");
        t.delete::<Image>(BOUND, "missing").await;
    })
    .await;
}

#[tokio::test]
async fn an_image_larger_than_the_flavor_s_disk_is_refused() {
    let (installation, _turn) = Installation::turn().await;
    let Some(lab) = installation.lab("serves images from this machine") else {
        return;
    };
    let large = made_by_qemu_img(&["create", "-q", "-f", "qcow2", "FILE", "1G"]);
    let server = WebServer::of(lab, HashMap::from([("large", large.clone())]));
    with_temp_namespace(&installation.cluster, async |t| {
        t.create(server.image("guest", "large", &large)).await;
        t.await_within::<Image>(GUEST, "guest", "Ready", is_ready).await;
        let flavor = FlavorSpec {
            disk: Bytes::mib(256),
            ..tiny()
        };
        let flavor = t.flavor("small", flavor).await;
        let yaml = serde_yaml::to_string(&instance("too-large", &flavor)).unwrap();
        eventually("the Instance is refused", BOUND, async || {
            let said = t.cluster.kubectl_says_of(
                &[
                    "create",
                    "--dry-run=server",
                    "--filename=-",
                    "--namespace",
                    &t.namespace,
                ],
                &yaml,
            );
            let words = ["spec.flavor", "1Gi", "256Mi", "name a larger Flavor"];
            let complete = !said.ok && words.iter().all(|word| said.stderr.contains(word));
            complete.then_some(()).ok_or(said.stderr)
        })
        .await;
        assert!(t.api::<Instance>().get_opt("too-large").await.unwrap().is_none());
    })
    .await;
}
