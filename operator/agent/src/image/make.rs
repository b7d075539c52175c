//! How does an image that is made on this node stand, and how does it get into the cache?

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;
use virga_crds::Image;
use virga_images::{
    Digest, Format,
    cache::{Adoption, Entry, Error, Limits},
};

use super::{
    images::{Images, Pull},
    peers::Coming,
};

impl Images {
    /// Takes note that an image is being made. Cancelled when its Image is gone, or the process stops. `None`: it is being
    /// made, or was.
    pub fn begin(&self, uid: &str) -> Option<CancellationToken> {
        let mut pulls = self.pulls();
        if pulls.contains_key(uid) {
            return None;
        }
        let cancel = self.shared.stop.child_token();
        let pull = Pull {
            cancel: cancel.clone(),
            coming: None,
            failure: None,
            digest: None,
        };
        pulls.insert(uid.to_owned(), pull);
        Some(cancel)
    }

    /// Another host is to make it.
    pub fn end(&self, uid: &str) {
        let pull = self.pulls().remove(uid);
        if let Some(pull) = pull {
            pull.cancel.cancel();
        }
    }

    /// How much of it is done.
    pub fn progress(&self, uid: &str, percent: Option<u8>) {
        let mut changed = false;
        self.update(uid, |pull| {
            let before = pull.coming.as_ref().and_then(Coming::percent);
            changed = before != percent || pull.failure.is_some();
            (pull.coming, pull.failure) = (Some(Coming::Made(percent)), None);
        });
        if changed {
            self.tell(Some(uid));
        }
    }

    /// It is in the cache.
    pub fn made(&self, uid: &str, entry: &Entry) {
        self.update(uid, |pull| {
            (pull.coming, pull.failure, pull.digest) = (None, None, Some(entry.digest));
        });
        self.tell(Some(uid));
    }

    /// Whether it was made, or found, here.
    pub fn is_made(&self, uid: &str) -> bool {
        self.pulls().get(uid).is_some_and(|pull| pull.digest.is_some())
    }

    /// The digest of an image, if it is known.
    pub fn digest_of(&self, image: &Image) -> Option<Digest> {
        self.digest(image)
    }

    /// What was made of this Image before, by this process or an earlier one.
    pub fn adopted(&self, uid: &str) -> Option<Entry> {
        self.shared.cache.adopted(uid)
    }

    /// Takes a qcow2 file that was made for this Image into the cache.
    pub async fn adopt(&self, uid: &str, file: PathBuf) -> Result<Entry, Error> {
        let adoption = Adoption {
            key: uid.to_owned(),
            file,
            digest: None,
            format: Some(Format::Qcow2),
            limits: Limits::default(),
        };
        self.shared.cache.adopt(adoption).await
    }

    /// Whether so many bytes more can be written.
    pub fn check_room(&self, bytes: u64) -> Result<(), Error> {
        self.shared.cache.check_room(bytes)
    }
}
