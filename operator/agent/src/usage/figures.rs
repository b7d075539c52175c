//! The figures of each guest as metrics. They are made from the last look when somebody asks, so what is gone has none.
//!
//! These, and no others, have the names of Instances and Ports: there are as many as guests on this host.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::{MetricType, exemplar::Exemplar},
};
use virga_hypervisor::{DiskUsage, DomainUsage, InterfaceUsage};

use super::{Known, Sample};

#[derive(Debug)]
pub(super) struct Figures {
    known: Arc<Mutex<Known>>,
}

impl Figures {
    pub(super) fn new(known: Arc<Mutex<Known>>) -> Self {
        Self { known }
    }
}

/// A metric of things of a kind. The names are KubeVirt's, with our prefix.
struct Metric<T> {
    name: &'static str,
    help: &'static str,
    value: fn(&T) -> Option<Value>,
}

enum Value {
    Counter(u64),
    Seconds(u64),
    Gauge(u64),
}

const fn metric<T>(name: &'static str, help: &'static str, value: fn(&T) -> Option<Value>) -> Metric<T> {
    Metric { name, help, value }
}

const DOMAINS: [Metric<DomainUsage>; 9] = [
    metric(
        "instance_cpu_usage_seconds",
        "The time that the guest had processors",
        |usage| usage.cpu_ns.map(Value::Seconds),
    ),
    metric(
        "instance_memory_resident_bytes",
        "The host's memory that the guest's process takes",
        |usage| usage.memory.resident.map(Value::Gauge),
    ),
    metric(
        "instance_memory_domain_bytes",
        "The memory that the balloon leaves to the guest",
        |usage| usage.memory.balloon.map(Value::Gauge),
    ),
    metric(
        "instance_memory_available_bytes",
        "What the guest sees as its memory",
        |usage| usage.memory.available.map(Value::Gauge),
    ),
    metric(
        "instance_memory_unused_bytes",
        "Memory that the guest uses for nothing",
        |usage| usage.memory.unused.map(Value::Gauge),
    ),
    metric(
        "instance_memory_usable_bytes",
        "Memory that the guest can have without swapping",
        |usage| usage.memory.usable.map(Value::Gauge),
    ),
    metric(
        "instance_memory_cached_bytes",
        "Memory with which the guest caches its disks",
        |usage| usage.memory.disk_caches.map(Value::Gauge),
    ),
    metric(
        "instance_memory_swap_in_traffic_bytes",
        "What the guest read from its swap",
        |usage| usage.memory.swap_in.map(Value::Counter),
    ),
    metric(
        "instance_memory_swap_out_traffic_bytes",
        "What the guest wrote to its swap",
        |usage| usage.memory.swap_out.map(Value::Counter),
    ),
];

const DISKS: [Metric<DiskUsage>; 7] = [
    metric("instance_storage_read_traffic_bytes", "Bytes read", |disk| {
        disk.read_bytes.map(Value::Counter)
    }),
    metric("instance_storage_write_traffic_bytes", "Bytes written", |disk| {
        disk.write_bytes.map(Value::Counter)
    }),
    metric("instance_storage_iops_read", "Reads", |disk| {
        disk.reads.map(Value::Counter)
    }),
    metric("instance_storage_iops_write", "Writes", |disk| {
        disk.writes.map(Value::Counter)
    }),
    metric("instance_storage_read_times_seconds", "Time spent on reads", |disk| {
        disk.read_ns.map(Value::Seconds)
    }),
    metric("instance_storage_write_times_seconds", "Time spent on writes", |disk| {
        disk.write_ns.map(Value::Seconds)
    }),
    metric(
        "instance_storage_physical_bytes",
        "What the disk's file takes on the host",
        |disk| disk.physical.map(Value::Gauge),
    ),
];

/// What a network card has moved, under names that begin with a prefix.
macro_rules! moved {
    ($prefix:literal) => {
        [
            metric(concat!($prefix, "_receive_bytes"), "Bytes received", |net| {
                net.received_bytes.map(Value::Counter)
            }),
            metric(concat!($prefix, "_transmit_bytes"), "Bytes sent", |net| {
                net.sent_bytes.map(Value::Counter)
            }),
            metric(concat!($prefix, "_receive_packets"), "Packets received", |net| {
                net.received_packets.map(Value::Counter)
            }),
            metric(concat!($prefix, "_transmit_packets"), "Packets sent", |net| {
                net.sent_packets.map(Value::Counter)
            }),
            metric(
                concat!($prefix, "_receive_errors"),
                "Packets that could not be received",
                |net| net.received_errors.map(Value::Counter),
            ),
            metric(
                concat!($prefix, "_transmit_errors"),
                "Packets that could not be sent",
                |net| net.sent_errors.map(Value::Counter),
            ),
            metric(
                concat!($prefix, "_receive_packets_dropped"),
                "Packets to be received that were dropped",
                |net| net.received_dropped.map(Value::Counter),
            ),
            metric(
                concat!($prefix, "_transmit_packets_dropped"),
                "Packets to be sent that were dropped",
                |net| net.sent_dropped.map(Value::Counter),
            ),
        ]
    };
}

const INTERFACES: [Metric<InterfaceUsage>; 8] = moved!("instance_network");

/// The same by Port: names of devices come and go, and Ports stay.
const PORTS: [Metric<InterfaceUsage>; 8] = moved!("port");

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |sample: &Sample| {
            vec![
                ("namespace", sample.namespace.clone()),
                ("instance", sample.name.clone()),
            ]
        };
        for metric in &DOMAINS {
            let rows = known.samples.iter().map(|sample| (of(sample), &sample.usage));
            family(&mut encoder, metric, rows)?;
        }
        for metric in &DISKS {
            let rows = known.samples.iter().flat_map(|sample| {
                let disks = sample.usage.disks.iter();
                disks.map(move |disk| ([of(sample), vec![("drive", disk.target.clone())]].concat(), disk))
            });
            family(&mut encoder, metric, rows)?;
        }
        for metric in &INTERFACES {
            let rows = known.samples.iter().flat_map(|sample| {
                let interfaces = sample.usage.interfaces.iter();
                interfaces.map(move |net| ([of(sample), vec![("interface", net.device.clone())]].concat(), net))
            });
            family(&mut encoder, metric, rows)?;
        }
        for metric in &PORTS {
            let rows = known.samples.iter().flat_map(|sample| {
                let plugged = sample.usage.interfaces.iter();
                plugged.filter_map(move |net| {
                    let plug = sample.plugs.get(&net.device)?;
                    let names = vec![("port", plug.port.clone()), ("network", plug.network.clone())];
                    Some(([of(sample), names].concat(), net))
                })
            });
            family(&mut encoder, metric, rows)?;
        }
        Ok(())
    }
}

type Labels = Vec<(&'static str, String)>;

fn family<'a, T: 'a>(
    encoder: &mut DescriptorEncoder,
    metric: &Metric<T>,
    rows: impl Iterator<Item = (Labels, &'a T)>,
) -> fmt::Result {
    let values: Vec<_> = rows
        .filter_map(|(labels, of)| Some((labels, (metric.value)(of)?)))
        .collect();
    let Some((_, first)) = values.first() else {
        return Ok(());
    };
    let kind = match first {
        Value::Counter(_) | Value::Seconds(_) => MetricType::Counter,
        Value::Gauge(_) => MetricType::Gauge,
    };
    let mut family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
    for (labels, value) in values {
        one(family.encode_family(&labels)?, &value)?;
    }
    Ok(())
}

fn one(mut encoder: MetricEncoder, value: &Value) -> fmt::Result {
    let none: Option<&Exemplar<NoLabelSet, u64>> = None;
    match value {
        Value::Counter(count) => encoder.encode_counter(count, none),
        Value::Seconds(nanos) => encoder.encode_counter(&Duration::from_nanos(*nanos).as_secs_f64(), none),
        Value::Gauge(value) => encoder.encode_gauge(value),
    }
}
