//! A typed OVSDB client (RFC 7047, ovsdb-server(7)) for OVN's north-bound database.
//!
//! [`Client`] keeps one connection to a server or a cluster's leader, a [`Replica`](replica::Replica) of the watched
//! tables, and writes transactions. [`reconcile::plan`] is the pure core: desired rows and the replica in, the one
//! transaction out that makes it so. [`northbound`] has OVN's tables as structs.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use virga_ovsdb::{Client, Options, northbound, reconcile};
//!
//! let remotes = vec!["unix:/run/ovn/ovnnb_db.sock".parse()?];
//! let client = Client::start(Options::new(remotes, northbound::DATABASE, northbound::TABLES.to_vec()));
//! client.synced().await?;
//!
//! let mut desired = reconcile::Desired::new("example");
//! let port = northbound::LogicalSwitchPort {
//!     name: "port-1".into(),
//!     ..Default::default()
//! };
//! let switch = northbound::LogicalSwitch {
//!     name: "net-1".into(),
//!     ports: [desired.insert("port-1", &port)].into(),
//!     ..Default::default()
//! };
//! desired.insert("net-1", &switch);
//! let plan = client.read(|replica| reconcile::plan(replica, &desired));
//! if !plan.is_empty() {
//!     client.transact_in(plan.epoch, &plan.operations).await?;
//! }
//! # Ok(())
//! # }
//! ```

pub mod client;
pub mod cluster;
pub mod frame;
mod message;
pub mod monitor;
pub mod northbound;
pub mod operation;
pub mod outcome;
pub mod reconcile;
pub mod remote;
pub mod replica;
pub mod schema;
pub mod southbound;
pub mod table;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tls;
pub mod value;
mod wire;

pub use client::{Client, Options};
