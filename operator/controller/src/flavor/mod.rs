//! Flavors: counts their Instances, and keeps those that are in use.

use std::{future::Future, sync::Arc};

use tokio_util::sync::CancellationToken;
use virga_core::{flavor, uses::TargetKind};

use crate::{Context, protect::Protected, stores::Watches, uses::UseIndex};

/// The kind's loop.
pub fn controller(
    context: Arc<Context>,
    watches: &Watches,
    uses: Arc<UseIndex>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let flavors = Protected {
        name: "flavor",
        target: TargetKind::Flavor,
        plan: |flavor, users, now| flavor::plan(flavor, users.iter(), now),
        context,
        uses,
    };
    flavors.controller(&watches.flavors, stop)
}

#[cfg(test)]
mod tests;
