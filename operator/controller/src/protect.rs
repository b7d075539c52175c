//! How is an object that others use kept until they are gone? See [`virga_core::protection`].

use virga_core::protection::Protection;
use virga_crds::finalizers;
use virga_runtime::{
    apply::{Error, Object, Writer},
    reconcile::Done,
};

/// Writes what `protection` asks for and, unless the object goes with it, `status`.
pub async fn settle<K: Object>(
    writer: &Writer,
    live: &K,
    protection: &Protection,
    status: &impl serde::Serialize,
) -> Result<Done, Error> {
    let changed = match protection {
        Protection::Release => writer.remove_finalizer(live, finalizers::CONTROLLER).await?.is_some(),
        Protection::Done => false,
        Protection::Set => {
            let held = writer.add_finalizer(live, finalizers::CONTROLLER).await?.is_some();
            writer.apply_status(live, status).await?.is_some() || held
        }
        Protection::Held | Protection::InUse(_) => writer.apply_status(live, status).await?.is_some(),
    };
    Ok(if changed { Done::changed() } else { Done::unchanged() })
}
