//! What are offers and directories of a Migration called?

use std::path::PathBuf;

use kube::ResourceExt;
use uuid::Uuid;
use virga_crds::Migration;
use virga_transfer::OfferId;

use crate::layout::Layout;

/// So much of a Migration's uid tells it from others of the same Instance.
const MARK: usize = 8;

/// A Migration and the Instance that it moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) instance: Uuid,
    mark: String,
}

impl Name {
    /// `None` before the controller has said which Instance it is.
    pub(super) fn of(migration: &Migration) -> Option<Self> {
        let instance = migration.status.as_ref()?.instance_uid.as_ref()?.parse().ok()?;
        let mark: String = migration
            .uid()?
            .chars()
            .filter(char::is_ascii_hexdigit)
            .take(MARK)
            .collect();
        Some(Self { instance, mark })
    }

    /// The offer of the root disk, with which the guest goes over.
    pub(super) fn root(&self) -> String {
        format!("{}-{}", self.instance, self.mark)
    }

    /// The offer of another file.
    pub(super) fn copy(&self, index: usize) -> String {
        format!("{}-{index}", self.root())
    }

    /// Whether an offer is one of this Migration's.
    pub(super) fn has(&self, offer: &OfferId) -> bool {
        let rest = offer.as_str().strip_prefix(&self.root());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// Where it is at the target, until the Instance is bound there.
    pub(super) fn directory(&self, layout: &Layout) -> PathBuf {
        layout.incoming().join(format!("instance-{}", self.root()))
    }

    /// Reads the offer of a root disk, or the name of a directory without `instance-`.
    pub(super) fn parse(root: &str) -> Option<Self> {
        let (instance, mark) = root.split_at_checked(36)?;
        let mark = mark.strip_prefix('-').filter(|mark| mark.len() == MARK)?;
        Some(Self {
            instance: instance.parse().ok()?,
            mark: mark.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_disk_s_offer_is_told_from_the_others() {
        let uid = Uuid::from_u128(7);
        let name = Name {
            instance: uid,
            mark: "1b4e28ba".into(),
        };
        assert_eq!(Name::parse(&name.root()), Some(name.clone()));
        assert_eq!(Name::parse(&name.copy(1)), None);
        assert!(name.has(&name.copy(12).parse().unwrap()) && name.has(&name.root().parse().unwrap()));
        let other = Name {
            mark: "1b4e28bb".into(),
            ..name.clone()
        };
        assert!(!name.has(&other.root().parse().unwrap()));
        assert_eq!(Name::parse("elsewhere"), None);
    }
}
