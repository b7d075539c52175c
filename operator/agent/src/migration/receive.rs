//! How does a guest's disk come here? The image that it lies over first, then what lies beside it, and the root disk last:
//! with it the guest goes over.

use std::{io, path::Path};

use kube::{Api, ResourceExt};
use tokio::{sync::watch, time::timeout};
use virga_core::instance::Room;
use virga_crds::{DiskFormat, Instance, Migration, OfferedFile, Outgoing, OutgoingState};
use virga_images::Format;
use virga_runtime::class::chain;
use virga_transfer::{
    Code,
    client::{self, Client, Progress, Request, What},
    handover::Receiver,
};

use super::{landing::is_ours, name::Name};
use crate::{host::Host, room, transfer::Peer};

/// The longest file that is taken beside the root disk.
const LONGEST_COPY: u64 = 1 << 30;
/// The longest root disk.
const LONGEST_ROOT: u64 = 1 << 50;
const ASK: std::time::Duration = std::time::Duration::from_secs(10);

/// Why a guest's disk did not come.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It can't, and nothing of it is owned here.
    #[error("{0}")]
    Rejected(String),
    /// It did not now. It is tried again.
    #[error("{0}")]
    NotNow(String),
}

/// One try: goes on where an earlier one, or an earlier process, stopped. When it returns, the guest is this host's.
pub(super) async fn receive(
    host: &Host,
    migration: &Migration,
    name: &Name,
    progress: &watch::Sender<Progress>,
) -> Result<(), Error> {
    let directory = name.directory(&host.layout);
    if is_ours(&directory) {
        return Ok(());
    }
    let later = |what: &str| Error::NotNow(what.to_owned());
    let client = host.transfers.client();
    let client = client.ok_or_else(|| later("this host has no certificate yet: its agent's log says why"))?;
    let status = migration.status.as_ref();
    let outgoing = status.and_then(|status| status.outgoing.as_ref());
    // One that has let go is asked as well: it may be that this was not heard.
    let outgoing = outgoing.filter(|outgoing| {
        matches!(outgoing.state, OutgoingState::Offered | OutgoingState::LetGo) && !outgoing.files.is_empty()
    });
    let (Some(status), Some(outgoing)) = (status, outgoing) else {
        return Err(later("the source has offered nothing yet"));
    };
    let peer = Peer::parse(
        status.source.as_deref().unwrap_or_default(),
        status.source_address.as_deref().unwrap_or_default(),
    );
    let peer = peer.ok_or_else(|| Error::Rejected("the source's address is none".into()))?;
    let Some((root, copies)) = outgoing.files.split_first() else {
        return Err(Error::Rejected("the source offers no root disk".into()));
    };
    let io = |error: io::Error| Error::NotNow(format!("writing {}: {error}", directory.display()));
    if !directory.exists() {
        has_room(host, migration, name).await?;
        tokio::fs::create_dir(&directory).await.map_err(io)?;
    }
    base(host, migration, outgoing, &peer, &directory).await?;
    for copy in copies {
        let request = request(&peer, copy, &directory, LONGEST_COPY)?;
        let came = request.destination.exists() && state(&client, &request.destination).await?.is_none();
        if !came {
            let (quiet, _) = watch::channel(Progress::default());
            client.receive(&request, &quiet).await.map_err(|error| failed(&error))?;
        }
    }
    let request = request(&peer, root, &directory, LONGEST_ROOT)?;
    let verified = matches!(
        state(&client, &request.destination).await?,
        Some(Receiver::Verified { .. })
    );
    if !verified {
        client
            .receive(&request, progress)
            .await
            .map_err(|error| failed(&error))?;
    }
    // From here on it may be the only one: whatever goes wrong, it is asked for again.
    let mut taken = None;
    let take = async {
        taken = Some(client.complete(&request).await);
        Ok::<_, Error>(())
    };
    host.carry_out("TakeOver", take).await?;
    match taken.unwrap_or(Err(client::Error::BrokeOff)) {
        Ok(_) => Ok(()),
        Err(client::Error::Refused {
            code: Code::Revoked,
            node,
        }) => Err(Error::Rejected(format!("{node} has taken its offer back"))),
        Err(error) => Err(Error::NotNow(chain(&error))),
    }
}

async fn state(client: &Client, destination: &Path) -> Result<Option<Receiver>, Error> {
    client.state(destination).await.map_err(|error| failed(&error))
}

fn request(peer: &Peer, file: &OfferedFile, directory: &Path, max_length: u64) -> Result<Request, Error> {
    let broken = || Error::Rejected(format!("the source offers {:?} under a name that is none", file.name));
    // The schema lets only plain names through; what comes from another host is looked at again.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !file.name.bytes().all(plain) || file.name.starts_with('.') || file.name == "base" {
        return Err(broken());
    }
    let id = file.offer.parse().map_err(|_| broken())?;
    let token = file.token.parse().map_err(|_| broken())?;
    Ok(Request {
        source: peer.source(What::Offer { id, token }),
        destination: directory.join(&file.name),
        max_length,
    })
}

/// What another call may bring is tried again; what the source says no to, or what can't be stored here, is not.
fn failed(error: &client::Error) -> Error {
    use client::Error as Client;
    match error {
        // The tokens were told anew, or the ledger is being written.
        Client::Refused {
            code: Code::NotOffered | Code::Expired | Code::Busy | Code::Failed,
            ..
        }
        | Client::Unreachable { .. }
        | Client::TookTooLong
        | Client::UnderWay(_)
        | Client::BrokeOff
        | Client::Io { .. } => Error::NotNow(chain(error)),
        _ => Error::Rejected(chain(error)),
    }
}

async fn has_room(host: &Host, migration: &Migration, name: &Name) -> Result<(), Error> {
    let namespace = migration.namespace().unwrap_or_default();
    let api = Api::<Instance>::namespaced(host.client.clone(), &namespace);
    let asked = timeout(ASK, api.get(&migration.spec.instance)).await;
    let instance = match asked {
        Ok(Ok(instance)) if instance.uid() == Some(name.instance.to_string()) => instance,
        Ok(Ok(_)) => return Err(Error::Rejected("the Instance is another one by now".into())),
        Ok(Err(error)) => return Err(Error::NotNow(format!("reading the Instance: {error}"))),
        Err(_) => return Err(Error::NotNow("reading the Instance: no answer".into())),
    };
    match room::room(host, &instance).await {
        Ok(Room::Enough) => Ok(()),
        Ok(Room::Short(why)) => Err(Error::Rejected(why)),
        Err(error) => Err(Error::NotNow(chain(&error))),
    }
}

/// The image that the root disk lies over, and the link that keeps it in the cache.
async fn base(
    host: &Host,
    migration: &Migration,
    outgoing: &Outgoing,
    peer: &Peer,
    directory: &Path,
) -> Result<(), Error> {
    let link = directory.join("base");
    if link.exists() {
        return Ok(());
    }
    let base = outgoing.base.as_ref();
    let digest = base.and_then(|base| Some((base.digest.parse().ok()?, base.format)));
    let (digest, format) =
        digest.ok_or_else(|| Error::Rejected("the source does not say which image the disk lies over".into()))?;
    let format = match format {
        DiskFormat::Qcow2 => Format::Qcow2,
        DiskFormat::Raw => Format::Raw,
    };
    let key = migration.uid().unwrap_or_default();
    let fetched = host.images.fetch_digest(peer, digest, format, &key).await;
    let entry = fetched.map_err(|error| Error::NotNow(format!("fetching the image {digest}: {}", chain(&error))))?;
    let linked = tokio::task::spawn_blocking(move || {
        match std::fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::os::unix::fs::symlink(entry.path, link)
    });
    let linked = linked.await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
    linked.map_err(|error| Error::NotNow(format!("linking the image: {error}")))
}
