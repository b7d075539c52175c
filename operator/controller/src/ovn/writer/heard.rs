//! What follows from what others wrote to the database?

use std::{collections::HashSet, sync::Arc};

use uuid::Uuid;
use virga_ovn::{whose, whose_group};
use virga_ovsdb::{
    client::News,
    northbound::LogicalSwitchPort,
    reconcile::{KEY, OWNER},
    replica::{Row, RowChange},
    table::{Extent, Table as _},
};

use super::Writer;

/// The mark of a port's row by which people find its Port, and we do.
const PORT: &str = "virga.dev/port";

impl Writer {
    /// Somebody has written: we, `ovn-northd`, or people who were not asked to.
    pub(super) fn hear(&mut self, news: &News) {
        let News::Rows(rows) = news else {
            self.cloud.touch_everything();
            self.look_at_ports();
            return;
        };
        for row in rows.iter() {
            self.hear_of_port(row);
            let Some(key) = self.ours(row).filter(|_| is_ours_to_mend(row)) else {
                continue;
            };
            if let Some(group) = whose_group(key) {
                self.cloud.touch(group);
            } else if let Some(about) = whose(key) {
                self.cloud.touch(about.network);
            }
        }
    }

    pub(super) fn hear_own(&mut self, news: &News) {
        match news {
            News::Rows(rows) => rows.iter().for_each(|row| self.hear_of_port(row)),
            News::Missed(_) => self.look_at_ports(),
        }
    }

    fn ours<'a>(&self, change: &'a RowChange) -> Option<&'a str> {
        let of = |row: &'a Arc<Row>| {
            row.external_id(KEY)
                .filter(|_| row.external_id(OWNER) == Some(&self.owner))
        };
        change
            .old
            .as_ref()
            .and_then(of)
            .or_else(|| change.new.as_ref().and_then(of))
    }

    fn hear_of_port(&self, change: &RowChange) {
        if change.table != LogicalSwitchPort::SPEC.name {
            return;
        }
        match (&change.old, &change.new) {
            (_, Some(row)) => self.note(row),
            (Some(row), None) => drop(self.port(row).map(|uid| self.reports.forget_row(uid))),
            (None, None) => {}
        }
    }

    /// The Port that a row of ours is about.
    fn port(&self, row: &Row) -> Option<Uuid> {
        let ours = row.external_id(OWNER) == Some(&self.owner);
        row.name().filter(|_| ours)?.parse().ok()
    }

    fn note(&self, row: &Row) {
        let name = row.external_id(PORT).and_then(|name| name.split_once('/'));
        if let (Some(uid), Some(name)) = (self.port(row), name) {
            let up = row.get::<Option<bool>>("up").ok().flatten().unwrap_or_default();
            self.reports.set_up(uid, name, up);
        }
    }

    pub(super) fn look_at_ports(&self) {
        let rows: Vec<_> = self
            .client
            .read(|replica| replica.rows(LogicalSwitchPort::SPEC.name).cloned().collect());
        let there: HashSet<Uuid> = rows.iter().filter_map(|row: &Arc<Row>| self.port(row)).collect();
        for row in &rows {
            self.note(row);
        }
        for gone in self.reports.with_row() {
            if !there.contains(&gone) {
                self.reports.forget_row(gone);
            }
        }
    }
}

/// Whether anything that is ours to say has changed; what `ovn-northd` says is not.
fn is_ours_to_mend(change: &RowChange) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else {
        return true;
    };
    let columns = old.table().spec.columns.iter();
    columns
        .filter(|column| column.extent != Extent::Observed)
        .any(|column| old.value(column.name) != new.value(column.name))
}
