//! Who gets what, and who gets nothing.

use std::{
    fs::OpenOptions,
    num::NonZeroU64,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
    time::timeout,
};
use virga_transfer::{
    Code, Token,
    client::{Client, Error, Progress, Request},
    handover::Source as State,
    offers,
    tls::Credentials,
};

use crate::stage::{self, Authority, Host, MIB, client, connect, digest_of, id, receive, request};

/// A file that node-1 offers to node-2, and what node-2 asks for it with.
struct Offered {
    host: Host,
    path: PathBuf,
    client: Client,
    there: TempDir,
    request: Request,
}

impl Offered {
    /// One of this size, in bytes.
    async fn of(size: u64) -> Self {
        let authority = Authority::new();
        let host = Host::start(authority.credentials("node-1")).await;
        let path = host.file("disk", size, &[(0, size)]);
        let token = host.offer("a", &path, "node-2").await;
        let there = tempfile::tempdir().unwrap();
        let request = request(host.source("a", &token), &there.path().join("disk"));
        Self {
            host,
            path,
            client: client(&authority.credentials("node-2")),
            there,
            request,
        }
    }

    async fn receive(&self) {
        receive(&self.client, &self.request).await.unwrap();
    }

    /// Receives it, and meanwhile, when something has come, does this, after which it can't be had: why.
    async fn receive_until(&self, change: impl AsyncFnOnce()) -> Option<Code> {
        let (progress, mut seen) = watch::channel(Progress::default());
        let change = async {
            seen.wait_for(|progress| progress.done > 0).await.unwrap();
            change().await;
        };
        let (received, ()) = tokio::join!(self.client.receive(&self.request, &progress), change);
        code(&received.unwrap_err())
    }

    /// Has it let go of, which is refused: why.
    async fn complete(&self) -> Option<Code> {
        code(&self.client.complete(&self.request).await.unwrap_err())
    }

    /// How many files node-2 has of it.
    fn received(&self) -> usize {
        std::fs::read_dir(self.there.path()).unwrap().count()
    }

    fn state(&self) -> Option<State> {
        self.host.offers.state(&id("a"))
    }
}

async fn refusal(host: &Host, credentials: &Arc<Credentials>, name: &str, token: &Token) -> Error {
    let there = tempfile::tempdir().unwrap();
    let request = request(host.source(name, token), &there.path().join("disk"));
    let error = receive(&client(credentials), &request).await.unwrap_err();
    assert!(!there.path().join("disk").exists());
    error
}

fn code(error: &Error) -> Option<Code> {
    match error {
        Error::Refused { code, .. } => Some(*code),
        _ => None,
    }
}

#[tokio::test]
async fn an_offer_is_for_one_node_with_its_token_and_for_all_others_not_there() {
    let authority = Authority::new();
    let host = Host::start(authority.credentials("node-1")).await;
    let path = host.file("disk", MIB, &[(0, MIB)]);
    let token = host.offer("a", &path, "node-2").await;
    let (second, third) = (authority.credentials("node-2"), authority.credentials("node-3"));
    let other = host.offer("b", &path, "node-3").await;
    let guessed = Token::random().unwrap();
    for (node, name, token) in [
        (&third, "a", &token),
        (&second, "a", &guessed),
        (&second, "a", &other),
        (&second, "b", &other),
        (&second, "c", &token),
    ] {
        let error = refusal(&host, node, name, token).await;
        assert_eq!(code(&error), Some(Code::NotOffered), "{error}");
    }
    assert_eq!(host.offers.state(&id("a")), Some(State::Offered), "nothing came of it");
}

#[tokio::test]
async fn an_offer_that_has_expired_is_refused_until_it_is_renewed_and_then_the_old_token_is_worth_nothing() {
    let authority = Authority::new();
    let mut host = Host::start(authority.credentials("node-1")).await;
    let path = host.file("disk", MIB, &[(0, MIB)]);
    let old = host.offer("a", &path, "node-2").await;
    let receiver = authority.credentials("node-2");
    host.ahead.store(2 * 3600, Ordering::SeqCst);
    assert_eq!(code(&refusal(&host, &receiver, "a", &old).await), Some(Code::Expired));
    let new = host.offer("a", &path, "node-2").await;
    assert_eq!(
        code(&refusal(&host, &receiver, "a", &old).await),
        Some(Code::NotOffered)
    );
    // What is in the ledger holds after a restart.
    host.restart().await;
    assert_eq!(
        code(&refusal(&host, &receiver, "a", &old).await),
        Some(Code::NotOffered)
    );
    let there = tempfile::tempdir().unwrap();
    let request = request(host.source("a", &new), &there.path().join("disk"));
    receive(&client(&receiver), &request).await.unwrap();
}

#[tokio::test]
async fn after_its_end_an_offer_is_not_let_go_of_but_what_was_let_go_of_is_told_at_any_time() {
    let mut offered = Offered::of(MIB).await;
    offered.receive().await;
    offered.host.ahead.store(2 * 3600, Ordering::SeqCst);
    assert_eq!(offered.complete().await, Some(Code::Expired));
    assert!(offered.state().unwrap().owns());
    let Offered {
        host,
        path,
        client,
        there,
        request,
    } = &mut offered;
    request.source = host.source("a", &host.offer("a", path, "node-2").await);

    // The answer is lost: the journal is as it was before.
    let journal = std::fs::read(there.path().join("disk.transfer")).unwrap();
    client.complete(request).await.unwrap();
    std::fs::write(there.path().join("disk.transfer"), journal).unwrap();
    std::fs::remove_file(path).unwrap();
    host.ahead.store(9 * 3600, Ordering::SeqCst);
    client.complete(request).await.unwrap();
    assert!(!there.path().join("disk.transfer").exists());
}

#[tokio::test]
async fn an_offer_that_is_taken_back_ends_its_transfers_and_the_source_keeps_the_file() {
    let offered = Offered::of(8 * MIB).await;
    let host = &offered.host;
    host.bandwidth.set(NonZeroU64::new(2 * MIB));
    let revoke = async || host.offers.revoke(&id("a")).await.unwrap();
    assert_eq!(offered.receive_until(revoke).await, Some(Code::Revoked));
    assert_eq!(offered.state(), Some(State::Revoked));
    offered.client.abandon(&offered.request.destination).await.unwrap();
    assert_eq!(offered.received(), 0);
    let again = offers::Offer {
        id: id("a"),
        path: offered.path.clone(),
        receiver: stage::node("node-2"),
        expires: host.now() + jiff::SignedDuration::from_hours(1),
        handover: true,
    };
    let error = host.offers.offer(again.clone()).await.unwrap_err();
    assert!(matches!(error, offers::Error::Refused { .. }), "{error}");
    host.offers.forget(&id("a")).await.unwrap();
    host.offers.offer(again).await.unwrap();
}

#[tokio::test]
async fn a_verified_copy_is_removed_when_the_source_says_that_it_kept_the_file() {
    let offered = Offered::of(MIB).await;
    offered.receive().await;
    offered.host.offers.revoke(&id("a")).await.unwrap();
    assert_eq!(offered.complete().await, Some(Code::Revoked));
    assert_eq!(offered.received(), 0);
    assert!(offered.path.exists());
}

/// A guest writes.
fn write(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"x", 7).unwrap();
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_served_ends_the_transfer_with_the_reason() {
    let changes: [fn(&Path); 4] = [
        write,
        // It grows.
        |path| {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(9 * MIB).unwrap();
        },
        // Another file takes its place.
        |path| {
            let other = path.with_extension("other");
            std::fs::copy(path, &other).unwrap();
            std::fs::rename(other, path).unwrap();
        },
        // It goes away.
        |path| std::fs::remove_file(path).unwrap(),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let offered = Offered::of(8 * MIB).await;
        offered.host.bandwidth.set(NonZeroU64::new(4 * MIB));
        let why = offered.receive_until(async || change(&offered.path)).await;
        assert_eq!(why, Some(Code::Changed), "change {index}");
        assert!(offered.state().unwrap().owns());
    }
}

#[tokio::test]
async fn a_source_that_changed_after_it_was_verified_is_not_let_go_of() {
    let offered = Offered::of(MIB).await;
    offered.receive().await;
    write(&offered.path);
    assert_eq!(offered.complete().await, Some(Code::Changed));
    assert!(offered.state().unwrap().owns());
}

#[tokio::test]
async fn certificates_of_another_authority_or_another_time_or_another_node_open_nothing() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let host = Host::start(ours.credentials("node-1")).await;
    let path = host.file("disk", MIB, &[(0, MIB)]);
    let token = host.offer("a", &path, "node-2").await;
    let bundle = ours.bundle();
    for (what, credentials) in [
        (
            "another authority's client",
            theirs.credentials_within("node-2", -1..24, &bundle),
        ),
        (
            "a client that trusts others",
            ours.credentials_within("node-2", -1..24, &theirs.bundle()),
        ),
        (
            "an expired client",
            ours.credentials_within("node-2", -48..-24, &bundle),
        ),
        (
            "a client that is not valid yet",
            ours.credentials_within("node-2", 24..48, &bundle),
        ),
    ] {
        let error = refusal(&host, &credentials, "a", &token).await;
        assert!(matches!(error, Error::Unreachable { .. }), "{what}: {error}");
    }
    // Another node answers at the address.
    let mut source = host.source("a", &token);
    source.node = stage::node("node-9");
    let there = tempfile::tempdir().unwrap();
    let request = request(source, &there.path().join("disk"));
    let error = receive(&client(&ours.credentials("node-2")), &request)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert_eq!(host.offers.state(&id("a")), Some(State::Offered));
}

#[tokio::test]
async fn renewed_credentials_are_used_from_the_next_connection_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let host = Host::start(old.credentials("node-1")).await;
    let path = host.file("disk", MIB, &[(0, MIB)]);
    let token = host.offer("a", &path, "node-2").await;
    let receiver = new.credentials("node-2");
    assert!(matches!(
        refusal(&host, &receiver, "a", &token).await,
        Error::Unreachable { .. }
    ));
    let (key, name) = (
        virga_transfer::certificate::NodeKey::generate().unwrap(),
        stage::node("node-1"),
    );
    let chain = new.issue(&key, &name);
    host.credentials
        .replace(&key.identity(&name, &chain).unwrap(), &new.bundle())
        .unwrap();
    let there = tempfile::tempdir().unwrap();
    let request = request(host.source("a", &token), &there.path().join("disk"));
    receive(&client(&receiver), &request).await.unwrap();
}

/// Sends one request with such a certificate, or none, and returns what comes: nothing when the server closes.
async fn raw(host: &Host, authority: &Authority, certificate: Option<(String, String)>, request: &str) -> String {
    let Ok(mut stream) = connect(host, authority, certificate).await else {
        return String::new();
    };
    let mut answer = Vec::new();
    if stream.write_all(request.as_bytes()).await.is_ok() {
        // A server that closes without a word is an error, and what came before it counts.
        let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn without_a_nodes_certificate_nobody_is_answered() {
    let authority = Authority::new();
    let host = Host::start(authority.credentials("node-1")).await;
    let request = "GET /v1/digests/00/manifest HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    for names in [
        &["virga-webhook.virga-system.svc"][..],
        &["node-2.agents.virga.dev", "node-3.agents.virga.dev"],
        &["*.agents.virga.dev"],
        &[],
    ] {
        let certificate = authority.certificate(names);
        assert_eq!(
            raw(&host, &authority, Some(certificate), request).await,
            "",
            "{names:?}"
        );
    }
    assert_eq!(raw(&host, &authority, None, request).await, "");
    let good = authority.certificate(&["node-2.agents.virga.dev"]);
    let answer = raw(&host, &authority, Some(good), request).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[tokio::test]
async fn no_text_of_a_request_becomes_a_path() {
    let authority = Authority::new();
    let host = Host::start(authority.credentials("node-1")).await;
    let path = host.file("disk", MIB, &[(0, MIB)]);
    let token = host.offer("a", &path, "node-2").await;
    let version = {
        let there = tempfile::tempdir().unwrap();
        let request = request(host.source("a", &token), &there.path().join("disk"));
        receive(&client(&authority.credentials("node-2")), &request)
            .await
            .unwrap();
        digest_of(&there.path().join("disk"))
    };
    for line in [
        "GET /etc/passwd",
        "GET /v1/offers/../../../etc/passwd/data",
        "GET /v1/offers/..%2f..%2fetc%2fpasswd/data",
        "GET /v1/offers/a/../../../../etc/passwd",
        "GET /v1/offers//data",
        "GET /v1/digests/../../etc/passwd",
        "GET /v1/offers/a/data/x",
        "POST /v1/offers/a/data",
        "DELETE /v1/offers/a",
        "GET /v1/offers/a/complete",
        "GET /v1/offers/a/extents?from=-1",
        "GET /v1/offers/a/extents?from=99999999999999999999",
        "GET /v1/offers/a/extents?from=1048577",
        "GET /v1/offers/a/data",
        "POST /v1/offers/a/complete",
    ] {
        let request = format!(
            "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\nrange: bytes=0-99999999\r\nif-match: \"{version}\"\r\n\r\n",
            token.expose()
        );
        let certificate = authority.certificate(&["node-2.agents.virga.dev"]);
        let answer = raw(&host, &authority, Some(certificate), &request).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{line}: {answer}");
        assert!(!answer.contains("root:"), "{line}");
    }
}

#[tokio::test]
async fn a_ledger_that_can_not_be_read_is_an_error_and_no_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.json"), b"{\"torn").unwrap();
    std::fs::write(directory.path().join(".virga-tmp-x"), b"left over").unwrap();
    let error = offers::Offers::open(directory.path(), Arc::new(jiff::Timestamp::now)).unwrap_err();
    assert!(error.to_string().contains("a.json"), "{error}");
}

/// The client type is what the agent names in its fields.
#[test]
fn a_client_can_be_shared_between_tasks() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Client>();
    shared::<offers::Offers>();
}
