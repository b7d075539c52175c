//! Is this the controller whose word counts? The database itself knows: each transaction begins with a question.
//!
//! The Lease alone can't say so. A process that slept while another took over would, awake, write once more what it knew.

use virga_ovsdb::{
    Client,
    client::Error,
    northbound::NbGlobal,
    operation::{Columns, Comparison, Condition, Operation, compare_and_set},
    outcome::{Reason, Refused},
    replica::Row,
    table::Table as _,
    value::{Atom, Map, Value},
};
use virga_runtime::lease::Leadership;

/// The column of the mark.
const MARKS: &str = "external_ids";

/// Keeps the word to this process for as long as it leads.
pub(super) struct Fence {
    /// The mark's key: one for each installation that shares the database.
    key: String,
    leadership: Leadership,
}

impl Fence {
    pub fn new(owner: &str, leadership: Leadership) -> Self {
        let key = format!("virga-leader-{owner}");
        Self { key, leadership }
    }

    /// The first operation of each transaction: it fails if the word is another's.
    pub fn question(&self) -> Operation {
        let mark = [(text(&self.key), text(&self.name()))];
        Operation::Wait {
            table: NbGlobal::SPEC.name.into(),
            conditions: vec![Condition::new(
                MARKS,
                Comparison::Includes,
                Value::Map(mark.into_iter().collect()),
            )],
            columns: vec![MARKS.into()],
            equal: false,
            rows: Vec::new(),
            limit: std::time::Duration::ZERO,
        }
    }

    /// Whether a transaction was refused by its question.
    pub fn has_refused(error: &Error) -> bool {
        let by_question = |refused: &Refused| refused.operation == Some(0) && refused.reason == Reason::TimedOut;
        matches!(error, Error::Refused(refused) if by_question(refused))
    }

    /// Takes the word, if it is another's and this process leads. Whether it has it then; another may be faster.
    pub async fn take(&self, client: &Client) -> Result<bool, Error> {
        if !self.leadership.is_leader() {
            return Ok(false);
        }
        let name = self.name();
        let row: Option<std::sync::Arc<Row>> = client.read(|replica| replica.rows(NbGlobal::SPEC.name).next().cloned());
        let holder = row.as_ref().and_then(|row| row.external_id(&self.key));
        if holder == Some(&name) {
            return Ok(true);
        }
        tracing::info!(
            before = holder.unwrap_or_default(),
            "the word in OVN's north-bound database is this controller's now"
        );
        let mark = (text(&self.key), text(&name));
        let operations = match &row {
            Some(row) => {
                let before = marked(row);
                let after = before.iter().cloned().chain([mark]).collect();
                compare_and_set(NbGlobal::SPEC.name, row.uuid(), marks(before), marks(after)).into()
            }
            None => vec![Operation::Insert {
                table: NbGlobal::SPEC.name.into(),
                row: marks([mark].into_iter().collect()),
                name: None,
            }],
        };
        client.transact(&operations).await.map(|_| true)
    }

    /// What this process is called in the Lease.
    fn name(&self) -> String {
        self.leadership.holder().unwrap_or_default()
    }
}

fn text(text: &str) -> Atom {
    Atom::String(text.into())
}

fn marks(map: Map) -> Columns {
    vec![(MARKS.into(), Value::Map(map))]
}

fn marked(row: &Row) -> Map {
    match row.value(MARKS) {
        Some(Value::Map(map)) => map.clone(),
        _ => Map::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use virga_ovsdb::{northbound::LogicalSwitch, testing::Server};
    use virga_runtime::clock::SystemClock;

    use super::*;

    fn leader(name: &str) -> Fence {
        Fence::new("test", Leadership::granted(Arc::new(SystemClock), name))
    }

    fn switch(name: &str) -> Operation {
        Operation::Insert {
            table: LogicalSwitch::SPEC.name.into(),
            row: vec![("name".into(), Value::Atom(text(name)))],
            name: None,
        }
    }

    #[tokio::test]
    async fn who_slept_while_another_took_over_writes_nothing() {
        let server = Server::start().unwrap();
        let client = Client::start(server.options());
        client.synced().await.unwrap();
        let (old, new) = (leader("old"), leader("new"));
        assert!(old.take(&client).await.unwrap());
        client.transact(&[old.question(), switch("a")]).await.unwrap();

        // While `old` sleeps.
        assert!(new.take(&client).await.unwrap());
        client.transact(&[new.question(), switch("b")]).await.unwrap();

        let late = client.transact(&[old.question(), switch("late")]).await.unwrap_err();
        assert!(Fence::has_refused(&late), "{late}");
        client.transact(&[new.question(), switch("c")]).await.unwrap();
        let count = client.read(|replica| replica.rows(LogicalSwitch::SPEC.name).count());
        assert_eq!(count, 3);
        client.shutdown().await;
    }

    #[tokio::test]
    async fn who_does_not_lead_takes_no_word() {
        let server = Server::start().unwrap();
        let client = Client::start(server.options());
        client.synced().await.unwrap();
        assert!(leader("one").take(&client).await.unwrap());
        let other = Fence::new("test", Leadership::refused(Arc::new(SystemClock)));
        assert!(!other.take(&client).await.unwrap());
        client.transact(&[leader("one").question(), switch("a")]).await.unwrap();
        client.shutdown().await;
    }
}
