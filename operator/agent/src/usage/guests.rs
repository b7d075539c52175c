//! What do the agents in guests say? Asked seldom, and only those that have opened their channel; libvirt answers for the
//! others at once.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use virga_core::instance::{Guest, is_news_of_guest};
use virga_crds::{Bytes, GuestFilesystem, GuestInterface, GuestStatus};
use virga_hypervisor::{Change, Event, EventStream, GuestInfo, Kind};
use virga_runtime::class::chain;

use super::Periods;
use crate::host::Host;

/// How long one guest may take for all its answers: four questions of 6 s each, in libvirt.
const ASK: Duration = Duration::from_secs(30);
/// How many are asked at once, as [`virga_hypervisor::CallsLimits::guests`].
const AT_ONCE: usize = 2;

/// Asks until the process stops.
pub async fn follow(host: Host, mut events: EventStream, periods: Periods, stop: CancellationToken) {
    let mut due: HashMap<Uuid, Instant> = HashMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(periods.sample) => {}
            event = events.next() => match event {
                None => return,
                Some(Event::Domain { uuid, change: Change::AgentConnected }) => {
                    due.insert(uuid, Instant::now() + periods.greeting);
                }
                Some(Event::Domain { uuid, change: Change::AgentDisconnected }) => {
                    due.insert(uuid, Instant::now() + periods.guest);
                    silent(&host, uuid);
                }
                Some(Event::Resync) => due.clear(),
                Some(Event::Domain { .. } | Event::Disconnected) => {}
            },
        }
        let (running, now) = (host.usage.running(), Instant::now());
        due.retain(|uid, at| running.contains(uid) || *at > now);
        for uid in &running {
            due.entry(*uid).or_insert(now + periods.greeting);
        }
        let asked: HashSet<Uuid> = due.iter().filter(|(_, at)| **at <= now).map(|(uid, _)| *uid).collect();
        for uid in &asked {
            due.insert(*uid, now + periods.guest);
        }
        let all = stream::iter(asked).map(|uid| ask(&host, uid)).buffer_unordered(AT_ONCE);
        tokio::select! {
            () = stop.cancelled() => return,
            () = all.for_each(|()| std::future::ready(())) => {}
        }
    }
}

async fn ask(host: &Host, uid: Uuid) {
    let answer = host
        .calls
        .guest(uid, ASK, move |hypervisor| hypervisor.guest_info(uid))
        .await;
    let Some(instance) = host.stores.instance(&uid.to_string()) else {
        return;
    };
    match answer {
        Ok(info) => {
            let said = status(info, host.clock.now());
            let told = instance.status.as_ref().and_then(|status| status.guest.as_deref());
            if is_news_of_guest(told, &said) {
                host.usage.set_guest(uid, Guest::Said(Box::new(said)));
                host.usage.wake(&instance);
            }
        }
        Err(error) if matches!(error.kind(), Kind::Busy | Kind::Timeout) => silent(host, uid),
        Err(error) => tracing::debug!(%uid, error = chain(&error), "asking a guest's agent"),
    }
}

fn silent(host: &Host, uid: Uuid) {
    host.usage.set_guest(uid, Guest::Silent);
    if let Some(instance) = host.stores.instance(&uid.to_string())
        && instance.status.as_ref().is_some_and(|status| status.guest.is_some())
    {
        host.usage.wake(&instance);
    }
}

fn status(info: GuestInfo, now: Timestamp) -> GuestStatus {
    GuestStatus {
        at: Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
        hostname: info.hostname,
        os: info.os,
        os_id: info.os_id,
        os_version: info.os_version,
        kernel: info.kernel,
        interfaces: info
            .interfaces
            .into_iter()
            .map(|interface| GuestInterface {
                name: interface.name,
                mac: interface.mac,
                addresses: interface.addresses.iter().map(ToString::to_string).collect(),
            })
            .collect(),
        filesystems: info
            .filesystems
            .into_iter()
            .map(|filesystem| GuestFilesystem {
                mountpoint: filesystem.mountpoint,
                type_: filesystem.kind,
                // What no disk is large enough for is no size.
                size: filesystem.total.filter(|size| *size < 1 << 60).map(Bytes),
                used: filesystem.used.filter(|used| *used < 1 << 60).map(Bytes),
            })
            .collect(),
    }
}
