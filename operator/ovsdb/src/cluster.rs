//! Is this server the one to talk to? By its own word, in the database `_Server` (ovsdb-server(5)): a member of a
//! cluster may have lost the others, may not lead, or may be behind what we have already seen.

use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::value::parse_uuid;

/// The database in which a server tells of the others.
pub const SERVER: &str = "_Server";
/// The name of our monitor of it.
const MONITOR: &str = "virga-server";

/// Why a server is passed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It does not serve the database, or can't be understood.
    #[error("it does not serve database {0}")]
    NotServed(String),
    /// A member of a cluster that does not reach the majority, or a relay without its source.
    #[error("it is cut off from its cluster")]
    CutOff,
    /// Another member leads.
    #[error("it does not lead its cluster")]
    NotLeader,
    /// Its copy is older than what another member has shown us.
    #[error("it is behind: at index {index}, where {seen} was seen before")]
    Stale {
        /// Where it is.
        index: u64,
        /// Where another one was.
        seen: u64,
    },
    /// A member of another cluster.
    #[error("it belongs to cluster {found}, and {expected} is configured")]
    OtherCluster {
        /// Its cluster.
        found: String,
        /// Ours.
        expected: Uuid,
    },
}

/// What a server says of a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether it is one of a RAFT cluster.
    pub clustered: bool,
    /// Whether it reaches the majority.
    pub connected: bool,
    /// Whether it leads.
    pub leader: bool,
    /// The cluster.
    pub cluster: Option<Uuid>,
    /// How far its log is.
    pub index: Option<u64>,
}

impl Standing {
    /// Finds a database in the reply to the monitor of `_Server`, or in an update of it; `None` if it is not in there.
    /// A server that tells of a deleted row serves the database no more.
    pub fn find(updates: &Json, database: &str) -> Option<Result<Self, Unfit>> {
        let rows = updates.get("Database")?.as_object()?;
        let named = |row: &Json, name: &str| {
            row.get(name).and_then(|row| row.get("name")).and_then(Json::as_str) == Some(database)
        };
        if let Some(row) = rows.values().find(|row| named(row, "new")) {
            return Some(Ok(Self::read(&row["new"])));
        }
        rows.values()
            .any(|row| named(row, "old"))
            .then(|| Err(Unfit::NotServed(database.to_owned())))
    }

    fn read(row: &Json) -> Self {
        let flag = |name: &str| row.get(name).and_then(Json::as_bool).unwrap_or(false);
        Self {
            clustered: row.get("model").and_then(Json::as_str) == Some("clustered"),
            connected: flag("connected"),
            leader: flag("leader"),
            cluster: row
                .get("cid")
                .and_then(Json::as_array)
                .and_then(|pair| parse_uuid(pair.get(1)?.as_str()?)),
            index: row.get("index").and_then(Json::as_u64),
        }
    }
}

/// What a server has to be, and the furthest that one was.
#[derive(Debug, Clone, Default)]
pub struct Judge {
    /// Whether only the leader will do.
    pub leader_only: bool,
    /// The one cluster whose members will do.
    pub cluster: Option<Uuid>,
    /// The cluster that was last talked to, and the highest index that it showed.
    seen: Option<(Uuid, u64)>,
}

impl Judge {
    /// A judge that has seen nothing.
    pub fn new(leader_only: bool, cluster: Option<Uuid>) -> Self {
        Self {
            leader_only,
            cluster,
            seen: None,
        }
    }

    /// Whether a server will do. A server on its own always does, unless a cluster is configured.
    pub fn judge(&mut self, standing: &Standing) -> Result<(), Unfit> {
        if let Some(expected) = self.cluster.filter(|expected| standing.cluster != Some(*expected)) {
            let found = standing
                .cluster
                .map_or_else(|| "none".to_owned(), |found| found.to_string());
            return Err(Unfit::OtherCluster { found, expected });
        }
        // A relay has a source that it can lose; a server on its own is always connected.
        if !standing.connected {
            return Err(Unfit::CutOff);
        }
        if !standing.clustered {
            return Ok(());
        }
        if self.leader_only && !standing.leader {
            return Err(Unfit::NotLeader);
        }
        let (Some(cluster), Some(index)) = (standing.cluster, standing.index) else {
            return Ok(());
        };
        match self.seen {
            Some((before, seen)) if before == cluster && index < seen => return Err(Unfit::Stale { index, seen }),
            // Another cluster was made in its place: its indexes can't be compared.
            _ => self.seen = Some((cluster, index)),
        }
        Ok(())
    }
}

/// The parameters of the request to monitor `_Server`.
pub fn monitor_params() -> Json {
    let columns = ["name", "model", "connected", "leader", "cid", "index"];
    json!([SERVER, MONITOR, { "Database": [{ "columns": columns }] }])
}

/// The tables of an `update` notification, if it is of `_Server`.
pub fn news(params: &Json) -> Option<&Json> {
    match params.as_array()?.as_slice() {
        [id, updates] if id == MONITOR => Some(updates),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(leader: bool, index: u64) -> Standing {
        Standing {
            clustered: true,
            connected: true,
            leader,
            cluster: Some(Uuid::from_u128(1)),
            index: Some(index),
        }
    }

    #[test]
    fn a_server_on_its_own_will_do() {
        let alone = Standing {
            connected: true,
            ..Standing::default()
        };
        assert_eq!(Judge::new(true, None).judge(&alone), Ok(()));
    }

    #[test]
    fn only_a_connected_leader_will_do() {
        let mut judge = Judge::new(true, None);
        assert_eq!(judge.judge(&member(false, 5)), Err(Unfit::NotLeader));
        assert_eq!(judge.judge(&member(true, 5)), Ok(()));
        let cut_off = Standing {
            connected: false,
            ..member(true, 5)
        };
        assert_eq!(judge.judge(&cut_off), Err(Unfit::CutOff));
        assert_eq!(Judge::new(false, None).judge(&member(false, 5)), Ok(()));
    }

    #[test]
    fn a_member_that_is_behind_is_passed_over_until_it_has_caught_up() {
        let mut judge = Judge::new(false, None);
        assert_eq!(judge.judge(&member(false, 7)), Ok(()));
        assert_eq!(judge.judge(&member(false, 6)), Err(Unfit::Stale { index: 6, seen: 7 }));
        assert_eq!(judge.judge(&member(false, 7)), Ok(()));
    }

    #[test]
    fn a_new_cluster_begins_at_its_own_index_and_a_configured_one_is_insisted_on() {
        let other = Standing {
            cluster: Some(Uuid::from_u128(2)),
            ..member(true, 1)
        };
        let mut judge = Judge::new(true, None);
        assert_eq!(judge.judge(&member(true, 9)), Ok(()));
        assert_eq!(judge.judge(&other), Ok(()));
        let mut pinned = Judge::new(true, Some(Uuid::from_u128(1)));
        assert!(matches!(pinned.judge(&other), Err(Unfit::OtherCluster { .. })));
    }

    #[test]
    fn the_database_is_found_among_the_servers_others() {
        let cid = Uuid::from_u128(1).to_string();
        let row = |name: &str| json!({"new": {"name": name, "model": "clustered", "connected": true, "leader": true, "cid": ["uuid", cid], "index": 4}});
        let updates = json!({"Database": {"a": row("_Server"), "b": row("OVN_Northbound")}});
        assert_eq!(Standing::find(&updates, "OVN_Northbound"), Some(Ok(member(true, 4))));
        assert_eq!(Standing::find(&updates, "Other"), None);
        let gone = json!({"Database": {"b": {"old": {"name": "OVN_Northbound"}}}});
        assert!(matches!(
            Standing::find(&gone, "OVN_Northbound"),
            Some(Err(Unfit::NotServed(_)))
        ));
    }
}
