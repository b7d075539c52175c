//! What is left of Migrations that are gone, such as those that somebody deleted by force?

use std::io;

use virga_crds::Migration;
use virga_runtime::class::chain;
use virga_transfer::{handover::Source, offers};

use super::{landing::is_ours, name::Name};
use crate::{host::Host, removal::remove_directory};

/// Takes back what is offered to nobody any more, and removes what came and will never be asked for. What may be the only
/// copy of a disk stays, and is told of in the log.
pub async fn sweep(host: &Host) {
    if let Err(error) = offered(host).await {
        tracing::warn!(
            error = chain(&error),
            "taking back what was offered for Migrations that are gone"
        );
    }
    if let Err(error) = came(host).await {
        tracing::warn!(error = chain(&error), "removing what came for Migrations that are gone");
    }
}

fn is_known(name: &Name, migration: &Migration) -> bool {
    Name::of(migration).as_ref() == Some(name)
}

async fn offered(host: &Host) -> Result<(), offers::Error> {
    let offers = host.transfers.offers();
    let all = offers.list();
    for (root, state) in &all {
        let Some(name) = Name::parse(root.as_str()) else {
            continue;
        };
        if host
            .stores
            .migrations_out
            .find(|known| is_known(&name, known))
            .is_some()
        {
            continue;
        }
        let here = host.stores.instance(&name.instance.to_string()).is_some();
        if matches!(state, Source::LetGo { .. }) && !here {
            // Its domain and its directory go as those of any Instance that is bound elsewhere.
            if host.layout.instance(name.instance).directory().exists() {
                continue;
            }
        }
        for (id, state) in all.iter().filter(|(id, _)| name.has(id)) {
            if state.owns() && *state != Source::Revoked {
                offers.revoke(id).await?;
            }
            offers.forget(id).await?;
        }
        tracing::info!(instance = %name.instance, "forgot what was offered for a Migration that is gone");
    }
    Ok(())
}

async fn came(host: &Host) -> Result<(), crate::effect::Error> {
    let read = |error: io::Error| crate::effect::Error::io("reading what came from other hosts")(error);
    let mut entries = tokio::fs::read_dir(host.layout.incoming()).await.map_err(read)?;
    while let Some(entry) = entries.next_entry().await.map_err(read)? {
        let name = entry.file_name();
        let name = name
            .to_str()
            .and_then(|name| Name::parse(name.strip_prefix("instance-")?));
        let Some(name) = name else { continue };
        if host.stores.migrations_in.find(|known| is_known(&name, known)).is_some() {
            continue;
        }
        let directory = name.directory(&host.layout);
        // A root disk with a name is verified, and the source may have let go of it.
        if directory.join("root.qcow2").exists() {
            let owned = is_ours(&directory);
            tracing::warn!(path = %directory.display(), owned, "a disk that came for a Migration that is gone is kept: \
                it may be the only copy; remove it if it is not");
            continue;
        }
        remove_directory(&directory).await?;
    }
    Ok(())
}
