//! What does the source do? It offers a guest that is off, takes the offer back when it is told to, and removes what is
//! left here once the guest is the target's.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::timeout;
use uuid::Uuid;
use virga_core::instance::{Domain, Power};
use virga_crds::{IncomingState, Instance, Migration, MigrationPhase, OfferedFile, Outgoing, OutgoingState, managers};
use virga_hypervisor::DomainState;
use virga_runtime::{
    apply::Writer,
    class::{Class, Classify, is_gone},
    reconcile::{Done, Reconcile},
};
use virga_transfer::{
    handover::{Refused, Source},
    offers::{self, Offer},
};

use super::{
    files::{self, Files},
    name::Name,
};
use crate::{domain, effect, host::Host, removal::remove_directory};

/// How long an offer stands: longer than any disk takes.
const STANDS: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How soon to look again at what has no event of its own.
const AGAIN: Duration = Duration::from_secs(2);
const ASK: Duration = Duration::from_secs(10);

/// Why a step was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger.
    #[error("changing the ledger of what was offered")]
    Ledger(#[from] offers::Error),
    /// What is left here could not be removed.
    #[error("removing what a guest left behind")]
    Remove(#[from] effect::Error),
    /// libvirt.
    #[error("removing the domain that a guest left behind")]
    Domain(#[from] virga_hypervisor::Error),
    /// The API server could not be asked.
    #[error("asking where the Instance is bound")]
    Ask(#[source] Box<kube::Error>),
    /// It did not answer.
    #[error("asking where the Instance is bound: no answer within {} s", ASK.as_secs())]
    TimedOut,
    /// It could not be told.
    #[error(transparent)]
    Tell(#[from] virga_runtime::apply::Error),
    /// The Migration names a target or an offer that can't be.
    #[error(transparent)]
    Name(#[from] virga_transfer::InvalidName),
}

impl Classify for Error {
    fn class(&self) -> Class {
        match self {
            Self::Tell(error) if error.is_not_found() => Class::Waiting,
            Self::Tell(error) => error.class(),
            Self::Name(_) => Class::Bug,
            _ => Class::Transient,
        }
    }
}

/// The loop over the Migrations that leave this host.
pub struct OutgoingLoop {
    host: Host,
    writer: Writer,
}

impl OutgoingLoop {
    /// The loop on this host.
    pub fn new(host: Host) -> Self {
        let writer = Writer::new(host.client.clone(), managers::AGENT_OUTGOING);
        Self { host, writer }
    }
}

impl Reconcile for OutgoingLoop {
    type Kind = Migration;
    type Error = Error;

    fn name(&self) -> &'static str {
        "outgoing"
    }

    async fn reconcile(&self, migration: Arc<Migration>) -> Result<Done, Error> {
        let Some(name) = Name::of(&migration) else {
            return Ok(Done::waiting());
        };
        let status = migration.status.clone().unwrap_or_default();
        // Nobody looks at the guest and starts it while it is given away.
        let _turn = self.host.turns.take(name.instance).await;
        let told = match status.phase.unwrap_or_default() {
            MigrationPhase::Preparing | MigrationPhase::Transferring => self.offer(&migration, &name).await?,
            MigrationPhase::Aborting => Some(match self.take_back(&name).await? {
                Outgoing {
                    state: OutgoingState::LetGo,
                    ..
                } => let_go(&migration),
                told => told,
            }),
            MigrationPhase::Failed => {
                self.take_back(&name).await?;
                self.forget(&name).await?;
                None
            }
            MigrationPhase::Switching | MigrationPhase::Completed => Some(self.leave(&migration, &name).await?),
            MigrationPhase::Pending => None,
        };
        let Some(told) = told else {
            return Ok(Done::waiting().again_in(AGAIN));
        };
        let settled = matches!(told.state, OutgoingState::Removed | OutgoingState::Revoked);
        let written = self
            .writer
            .apply_status(migration.as_ref(), &json!({ "outgoing": told }))
            .await?;
        let done = Done::changed_if(written.is_some());
        Ok(if settled { done } else { done.again_in(AGAIN) })
    }
}

fn outgoing(state: OutgoingState) -> Outgoing {
    Outgoing {
        state,
        files: Vec::new(),
        base: None,
        message: None,
    }
}

/// What was offered is told on: the target needs it to ask once more, if it did not hear that the source has let go.
fn let_go(migration: &Migration) -> Outgoing {
    let told = migration.status.as_ref().and_then(|status| status.outgoing.clone());
    Outgoing {
        state: OutgoingState::LetGo,
        message: None,
        ..told.unwrap_or_else(|| outgoing(OutgoingState::LetGo))
    }
}

fn refused(message: &impl ToString) -> Outgoing {
    let mut message = message.to_string();
    message.truncate(message.floor_char_boundary(1024));
    Outgoing {
        message: Some(message),
        ..outgoing(OutgoingState::Refused)
    }
}

impl OutgoingLoop {
    /// Offers a guest that is off. `None`: it is not off yet.
    async fn offer(&self, migration: &Migration, name: &Name) -> Result<Option<Outgoing>, Error> {
        let host = &self.host;
        let root = name.root().parse()?;
        let told = migration.status.as_ref().and_then(|status| status.outgoing.clone());
        match host.transfers.offers().state(&root) {
            Some(Source::LetGo { .. }) => return Ok(Some(let_go(migration))),
            Some(Source::Revoked) => return Ok(Some(outgoing(OutgoingState::Revoked))),
            Some(_) if told.as_ref().is_some_and(|told| told.state == OutgoingState::Offered) => return Ok(told),
            // Offered, and nobody was told with which tokens; or not offered yet.
            Some(_) | None => {}
        }
        if host.stores.instance(&name.instance.to_string()).is_none() {
            return Ok(None);
        }
        match domain::look(host, name.instance).await {
            Domain::Defined(Power::Off(_)) | Domain::Absent => {}
            _ => return Ok(None),
        }
        let files = host.layout.instance(name.instance);
        let found = tokio::task::spawn_blocking(move || files::of(&files)).await;
        let files = match found {
            Ok(Ok(files)) => files,
            Ok(Err(error)) => {
                self.take_back(name).await?;
                return Ok(Some(refused(&error)));
            }
            Err(_) => return Ok(None),
        };
        let target = migration.status.as_ref().and_then(|status| status.target.as_deref());
        let offered = self.offer_files(name, target.unwrap_or_default(), files);
        let mut told = None;
        host.carry_out("OfferGuest", async {
            told = Some(offered.await?);
            Ok::<_, Error>(())
        })
        .await?;
        Ok(told)
    }

    async fn offer_files(&self, name: &Name, target: &str, files: Files) -> Result<Outgoing, Error> {
        let offers = self.host.transfers.offers();
        let expires = self.host.clock.now() + STANDS;
        let mut offered = Vec::new();
        let copies = files.copies.into_iter().enumerate();
        let copies = copies.map(|(index, (file, path))| (file, path, name.copy(index), false));
        // The root disk last: nothing of the guest can go over before all of it is offered.
        let root = ("root.qcow2".to_owned(), files.root, name.root(), true);
        for (file, path, id, handover) in copies.chain([root]) {
            let offer = Offer {
                id: id.parse()?,
                path,
                receiver: target.parse()?,
                expires,
                handover,
            };
            let token = offers.offer(offer).await?;
            offered.push(OfferedFile {
                name: file,
                offer: id,
                token: token.expose().to_owned(),
            });
        }
        offered.rotate_right(1);
        Ok(Outgoing {
            files: offered,
            base: Some(files.base),
            ..outgoing(OutgoingState::Offered)
        })
    }

    /// Takes all offers back, unless it is too late.
    async fn take_back(&self, name: &Name) -> Result<Outgoing, Error> {
        let offers = self.host.transfers.offers();
        let mut state = OutgoingState::Revoked;
        let all = offers.list().into_iter().filter(|(id, _)| name.has(id));
        let mut mine: Vec<_> = all.collect();
        // The root disk first: what is decided there holds for all.
        mine.sort_by_key(|(id, _)| id.as_str().len());
        for (id, _) in mine {
            match offers.revoke(&id).await {
                Ok(()) => {}
                Err(offers::Error::Refused {
                    source: Refused::LetGo, ..
                }) => state = OutgoingState::LetGo,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(outgoing(state))
    }

    /// Forgets the offers of a Migration that is over.
    async fn forget(&self, name: &Name) -> Result<(), Error> {
        let offers = self.host.transfers.offers();
        for (id, state) in offers.list().into_iter().filter(|(id, _)| name.has(id)) {
            if state.owns() && state != Source::Revoked {
                // A copy: nobody lets go of it.
                offers.revoke(&id).await?;
            }
            offers.forget(&id).await?;
        }
        Ok(())
    }

    /// The target owns the guest. Once the Instance is bound there, nothing of it stays here.
    async fn leave(&self, migration: &Migration, name: &Name) -> Result<Outgoing, Error> {
        let host = &self.host;
        let uid = name.instance;
        let bound_here = host.stores.instance(&uid.to_string()).is_some();
        if bound_here || !self.is_elsewhere(migration, uid).await? {
            return Ok(let_go(migration));
        }
        host.carry_out("RemoveGuest", self.remove(name)).await?;
        let incoming = migration.status.as_ref().and_then(|status| status.incoming.as_ref());
        let heard = incoming.is_some_and(|told| matches!(told.state, IncomingState::Owned | IncomingState::Landed));
        let over = migration.status.as_ref().and_then(|status| status.phase) == Some(MigrationPhase::Completed);
        if !heard && !over {
            return Ok(let_go(migration));
        }
        // Last: while it is there the guest is known not to be this host's, and the target can ask.
        self.forget(name).await?;
        Ok(outgoing(OutgoingState::Removed))
    }

    async fn remove(&self, name: &Name) -> Result<(), Error> {
        let (host, uid) = (&self.host, name.instance);
        let ended = host.change(uid, move |hypervisor| {
            if hypervisor.domain(uid)?.state != DomainState::ShutOff {
                hypervisor.destroy(uid)?;
            }
            hypervisor.undefine(uid)
        });
        match ended.await {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
        remove_directory(host.layout.instance(uid).directory()).await?;
        host.claims.release(&uid.to_string());
        Ok(())
    }

    /// Whether the Instance is proved to be bound to another host, or to be gone.
    async fn is_elsewhere(&self, migration: &Migration, uid: Uuid) -> Result<bool, Error> {
        let namespace = migration.namespace().unwrap_or_default();
        let api = Api::<Instance>::namespaced(self.host.client.clone(), &namespace);
        match timeout(ASK, api.get(&migration.spec.instance)).await {
            Err(_) => Err(Error::TimedOut),
            Ok(Err(error)) if is_gone(&error) => Ok(true),
            Ok(Err(error)) => Err(Error::Ask(Box::new(error))),
            Ok(Ok(instance)) => {
                let same = instance.uid().as_deref() == Some(uid.to_string().as_str());
                let node = instance.spec.node_name;
                Ok(!same || node.is_some_and(|node| node != self.host.node))
            }
        }
    }
}
