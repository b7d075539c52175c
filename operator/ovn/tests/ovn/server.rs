//! A client of a real ovsdb-server, and what it writes.

use std::time::Duration;

use tokio::time::timeout;
use virga_ovn::Wanted;
use virga_ovsdb::{
    Client,
    reconcile::{Plan, plan},
    testing::Server,
};

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_mins(1);

/// A client whose replica is up to date.
pub async fn client(server: &Server) -> Client {
    let client = Client::start(server.options());
    timeout(LONG, client.synced())
        .await
        .expect("it should be there soon")
        .unwrap();
    client
}

/// Writes what is wanted in one transaction.
pub async fn write(client: &Client, wanted: &Wanted) -> Plan {
    let plan = client.read(|replica| plan(replica, &wanted.desired));
    if !plan.is_empty() {
        client.transact_in(plan.epoch, &plan.operations).await.unwrap();
    }
    plan
}
