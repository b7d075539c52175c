//! Server groups: names their members, and keeps those that have any.

use std::{future::Future, sync::Arc};

use tokio_util::sync::CancellationToken;
use virga_core::{server_group, uses::TargetKind};

use crate::{Context, protect::Protected, stores::Watches, uses::UseIndex};

/// The kind's loop.
pub fn controller(
    context: Arc<Context>,
    watches: &Watches,
    uses: Arc<UseIndex>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let groups = Protected {
        name: "servergroup",
        target: TargetKind::ServerGroup,
        plan: |group, members, now| server_group::plan(group, members.iter(), now),
        context,
        uses,
    };
    groups.controller(&watches.server_groups, stop)
}

#[cfg(test)]
mod tests;
