//! Is a guest on its way, to another host or from one?

use uuid::Uuid;
use virga_core::instance::Leaving;
use virga_crds::{Migration, MigrationPhase};
use virga_transfer::handover::Source;

use super::name::Name;
use crate::host::Host;

/// Whether it is, by the ledger on this disk and by what the API says. The ledger counts also when the Migration is gone.
pub fn leaving(host: &Host, uid: Uuid) -> Option<Leaving> {
    let offers = host.transfers.offers().list();
    let offered = offers.iter().any(|(offer, state)| {
        let of = Name::parse(offer.as_str());
        *state != Source::Revoked && of.is_some_and(|name| name.instance == uid)
    });
    let text = uid.to_string();
    let phase = |migration: &Migration| migration.status.as_ref().and_then(|status| status.phase);
    let is_it = |migration: &Migration| {
        let status = migration.status.as_ref();
        status.is_some_and(|status| status.instance_uid.as_deref() == Some(&text))
            && matches!(
                phase(migration),
                Some(MigrationPhase::Preparing | MigrationPhase::Transferring | MigrationPhase::Switching)
            )
    };
    let migration = host.stores.migrations_out.find(is_it);
    if !offered && migration.is_none() {
        return None;
    }
    let status = migration.as_ref().and_then(|migration| migration.status.as_ref());
    Some(Leaving {
        target: status.and_then(|status| status.target.clone()),
        percent: status.and_then(|status| status.incoming.as_ref()?.progress),
        // Once it is switched the target owns it, whatever became of the ledger.
        offered: offered || migration.as_deref().and_then(phase) == Some(MigrationPhase::Switching),
    })
}

/// Whether an Instance that is bound here has its disk still to come: the source has let go, and this host has not heard
/// it yet. Until then nothing is made of it and nothing is missing.
pub fn is_awaited(host: &Host, uid: Uuid) -> bool {
    let text = uid.to_string();
    let comes = host.stores.migrations_in.find(|migration| {
        let status = migration.status.as_ref();
        status.is_some_and(|status| {
            status.instance_uid.as_deref() == Some(&text) && status.phase == Some(MigrationPhase::Switching)
        })
    });
    comes.is_some() && !host.layout.instance(uid).root_disk().exists()
}
