//! How a verified file becomes ours: the source lets go, and only then.

use tokio::time::Instant;
use virga_images::Digest;

use super::{
    Client, Error, Owned, Request, Source,
    connection::Connection,
    error::Failure,
    partial::{self, Paths, Verified},
};
use crate::{
    handover::{Heard, Receiver, Refusal},
    wire::Code,
};

/// How often a source that forgot that we have verified is told again, in one attempt.
const TOLD_AGAIN: usize = 3;

/// What an attempt came to.
enum Outcome {
    LetGo(Digest),
    Revoked,
}

pub(super) async fn complete(client: &Client, request: &Request, deadline: Instant) -> Result<Owned, Error> {
    let paths = Paths::of(&request.destination);
    let what = request.source.what();
    let found = client.unless_under_way(move || begin(paths.clone(), &what)).await?;
    let owned = Owned {
        path: request.destination.clone(),
    };
    let Some(mut verified) = found else {
        return Ok(owned);
    };
    let mut failures = 0;
    let outcome = loop {
        match attempt(client, &request.source, verified.digest, deadline).await {
            Ok(outcome) => break outcome,
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Transient(reason)) => {
                failures += 1;
                client.again(&request.source, failures, reason, deadline).await?;
            }
        }
    };
    let node = request.source.node.clone();
    super::blocking(move || match outcome {
        Outcome::LetGo(digest) => {
            verified.hear(Heard::LetGo(digest))?;
            partial::remove_journal(&verified.paths, verified.journal)?;
            Ok(owned)
        }
        Outcome::Revoked => {
            verified.hear(Heard::Revoked)?;
            partial::remove_files(&verified.paths)?;
            partial::remove_journal(&verified.paths, verified.journal)?;
            let code = Code::Revoked;
            Err(Error::Refused { node, code })
        }
    })
    .await
}

/// The verified file that the source is to be asked for; `None` when it is ours already. Blocks.
fn begin(paths: Paths, what: &str) -> Result<Option<Verified>, Error> {
    let Some(journal) = paths.journal(false)? else {
        // The journal is removed last.
        return match std::fs::symlink_metadata(&paths.whole) {
            Ok(_) => Ok(None),
            Err(_) => Err(Error::Lost(paths.whole)),
        };
    };
    let out_of_turn = |path| {
        let source = Refusal::OutOfTurn;
        Err(Error::State { path, source })
    };
    let Some(record) = journal.record().cloned() else {
        return out_of_turn(paths.whole);
    };
    if record.what != what {
        return Err(Error::OtherTransfer(paths.whole));
    }
    match record.receiver {
        Receiver::Partial => out_of_turn(paths.whole),
        Receiver::Owned { .. } => {
            partial::remove_journal(&paths, journal)?;
            Ok(None)
        }
        Receiver::Abandoned => {
            partial::remove_files(&paths)?;
            partial::remove_journal(&paths, journal)?;
            out_of_turn(paths.whole)
        }
        Receiver::Verified { digest } => {
            partial::name(&paths)?;
            Ok(Some(Verified {
                paths,
                journal,
                record,
                digest,
            }))
        }
    }
}

/// One connection. The source is asked for the end first: when it has let go already, it says nothing else.
async fn attempt(client: &Client, source: &Source, digest: Digest, deadline: Instant) -> Result<Outcome, Failure> {
    let mut connection = Connection::open(client, source, deadline).await?;
    for _ in 0..TOLD_AGAIN {
        match connection.complete(digest).await {
            Ok(of) => return Ok(Outcome::LetGo(of)),
            Err(failure) => match refusal(&failure) {
                Some(Code::Revoked) => return Ok(Outcome::Revoked),
                Some(Code::NotVerified) => {}
                _ => return Err(failure),
            },
        }
        // It knows its own digest before it compares. After its restart that may take a while.
        client.sources_digest(source, deadline).await?;
        match connection.verified(digest).await {
            Err(failure) if refusal(&failure) == Some(Code::Revoked) => return Ok(Outcome::Revoked),
            told => told?,
        }
    }
    Err(Failure::Transient(
        "the source forgets that the file was verified".to_owned(),
    ))
}

fn refusal(failure: &Failure) -> Option<Code> {
    match failure {
        Failure::Final(Error::Refused { code, .. }) => Some(*code),
        _ => None,
    }
}

/// Removes what is here of a transfer that nobody wants any more. Blocks.
pub(super) fn abandon(paths: &Paths) -> Result<(), Error> {
    let Some(mut journal) = paths.journal(false)? else {
        // What is there is ours, and no transfer.
        return Ok(());
    };
    if let Some(record) = journal.record().cloned() {
        // Of a copy, the source keeps its own.
        let may_go = !record.handover && !matches!(record.receiver, Receiver::Owned { .. });
        let next = match record.receiver.after(Heard::GiveUp) {
            Ok(next) => next,
            Err(_) if may_go => Receiver::Abandoned,
            Err(source) => {
                let path = paths.whole.clone();
                return Err(Error::State { path, source });
            }
        };
        let had_its_name = !matches!(record.receiver, Receiver::Partial);
        let mut record = record;
        record.receiver = next;
        // Before it is verified, a file of that name is not ours.
        if had_its_name {
            journal
                .write(record)
                .map_err(Error::io("writing the journal", &paths.journal))?;
            partial::remove_files(paths)?;
        }
    }
    partial::remove_partial(paths)?;
    partial::remove_journal(paths, journal)
}
