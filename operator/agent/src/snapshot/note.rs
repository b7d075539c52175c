//! What is noted of a copy before it begins, for whoever has to put right what is left of it.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A note is a few words; what is longer was not written by us.
const MAX_BYTES: usize = 4096;

/// A copy that was begun, or is about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Note {
    /// Whose disk is copied, as the uid's number.
    instance: u128,
    /// Whether its file systems stand still.
    pub frozen: Frozen,
}

/// Whether a guest's file systems stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frozen {
    /// They don't.
    No,
    /// It was to be asked for.
    Perhaps,
    /// The guest agent said so.
    Yes,
}

impl Note {
    /// A copy of this Instance's disk.
    pub fn new(instance: Uuid, frozen: Frozen) -> Self {
        Self {
            instance: instance.as_u128(),
            frozen,
        }
    }

    /// Whose disk is copied.
    pub fn instance(self) -> Uuid {
        Uuid::from_u128(self.instance)
    }
}

/// What was noted; nothing when there is no note. One that can't be read is an error: somebody may stand still for it.
pub async fn read(path: &Path) -> io::Result<Option<Note>> {
    match tokio::fs::read(path).await {
        Ok(bytes) if bytes.len() <= MAX_BYTES => Ok(Some(serde_json::from_slice(&bytes)?)),
        Ok(_) => Err(io::Error::other("it is too long to be a note of ours")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Notes it, durably. A crash leaves the old note or the new one.
pub async fn write(path: &Path, note: Note) -> io::Result<()> {
    let bytes = serde_json::to_vec(&note)?;
    let path = path.to_owned();
    let written = tokio::task::spawn_blocking(move || {
        let temporary = path.with_extension("tmp");
        let file = std::fs::File::create(&temporary)?;
        io::Write::write_all(&mut &file, &bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)
    });
    written.await.map_err(io::Error::other)?
}
