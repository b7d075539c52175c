//! What domains use, all of them in one call.

use std::collections::HashSet;

use uuid::Uuid;
use virt::error::ErrorNumber;
use virt::sys;

use super::connection::Link;
use super::error;
use super::params::Params;
use crate::clean::clean;
use crate::domain::{DiskUsage, DomainUsage, InterfaceUsage, MemoryUsage};
use crate::error::Result;

/// More devices than a domain of ours has.
const MOST_DEVICES: u64 = 64;

/// What libvirt answers: a list that it made, which is freed with this.
///
/// virt 0.5.0 has `all_domain_stats`, which frees only the list of pointers and so leaks each record.
struct Records {
    list: *mut sys::virDomainStatsRecordPtr,
    count: usize,
}

impl Drop for Records {
    fn drop(&mut self) {
        // SAFETY: the list is what libvirt gave us, and it is freed once.
        unsafe { sys::virDomainStatsRecordListFree(self.list) };
    }
}

/// Reads the usage of these domains, of those that are active.
pub(super) fn read(link: &Link, of: &[Uuid]) -> Result<Vec<DomainUsage>> {
    let connection = link.connection()?;
    let kinds = sys::VIR_DOMAIN_STATS_CPU_TOTAL
        | sys::VIR_DOMAIN_STATS_BALLOON
        | sys::VIR_DOMAIN_STATS_INTERFACE
        | sys::VIR_DOMAIN_STATS_BLOCK;
    let active = sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE;
    let ask = |kinds: u32, flags: u32| {
        let mut list = std::ptr::null_mut();
        // SAFETY: the connection's pointer is valid as long as `connection` lives; the list is written before the call
        // returns, and is ours when the count is not negative.
        let count = unsafe { sys::virConnectGetAllDomainStats(connection.get().as_ptr(), kinds, &raw mut list, flags) };
        match usize::try_from(count) {
            Ok(count) => Ok(Records { list, count }),
            Err(_) => Err(virt::error::Error::last_error()),
        }
    };
    // A domain that is busy is told of in part, and nobody waits for it.
    let answer = match ask(kinds, active | sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT) {
        // libvirt's test driver has neither these kinds nor this flag.
        Err(error) if error.code().is(ErrorNumber::InvalidArg) => ask(0, active),
        answer => answer,
    };
    let records = answer.map_err(|e| error::explain(&connection, "reading what domains use", "domains", &e))?;
    let wanted: HashSet<Uuid> = of.iter().copied().collect();
    let mut usages = Vec::new();
    for place in 0..records.count {
        // SAFETY: the list has `count` valid pointers to records, each with a valid domain and its parameters.
        let (uuid, params) = unsafe {
            let record = &**records.list.add(place);
            let mut bytes: uuid::Bytes = [0; 16];
            if sys::virDomainGetUUID(record.dom, bytes.as_mut_ptr()) != 0 {
                continue;
            }
            let uuid = Uuid::from_bytes(bytes);
            if !wanted.contains(&uuid) {
                continue;
            }
            (uuid, Params::copy(record.params, record.nparams))
        };
        usages.push(usage(uuid, &params));
    }
    usages.sort_by_key(|usage| usage.uuid);
    Ok(usages)
}

fn usage(uuid: Uuid, params: &Params) -> DomainUsage {
    let kib = |name: &str| params.number(name).map(|kib| kib.saturating_mul(1024));
    DomainUsage {
        uuid,
        cpu_ns: params.number("cpu.time"),
        memory: MemoryUsage {
            resident: kib("balloon.rss"),
            balloon: kib("balloon.current"),
            available: kib("balloon.available"),
            unused: kib("balloon.unused"),
            usable: kib("balloon.usable"),
            disk_caches: kib("balloon.disk_caches"),
            swap_in: kib("balloon.swap_in"),
            swap_out: kib("balloon.swap_out"),
        },
        disks: (0..params.count("block.count", MOST_DEVICES))
            .map(|place| {
                let of = |what: &str| params.number(&format!("block.{place}.{what}"));
                DiskUsage {
                    target: clean(params.text(&format!("block.{place}.name")).unwrap_or_default()),
                    read_bytes: of("rd.bytes"),
                    reads: of("rd.reqs"),
                    read_ns: of("rd.times"),
                    write_bytes: of("wr.bytes"),
                    writes: of("wr.reqs"),
                    write_ns: of("wr.times"),
                    physical: of("physical"),
                }
            })
            .collect(),
        interfaces: (0..params.count("net.count", MOST_DEVICES))
            .map(|place| {
                let of = |what: &str| params.number(&format!("net.{place}.{what}"));
                InterfaceUsage {
                    device: clean(params.text(&format!("net.{place}.name")).unwrap_or_default()),
                    received_bytes: of("rx.bytes"),
                    received_packets: of("rx.pkts"),
                    received_errors: of("rx.errs"),
                    received_dropped: of("rx.drop"),
                    sent_bytes: of("tx.bytes"),
                    sent_packets: of("tx.pkts"),
                    sent_errors: of("tx.errs"),
                    sent_dropped: of("tx.drop"),
                }
            })
            .collect(),
    }
}
