//! Who brings a network up at this moment, and need whoever waited do it again?

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::{Mutex as Turn, OwnedMutexGuard},
    time::Instant,
};
use uuid::Uuid;
use virga_network::{Attachment, NodeNetwork};

/// Of one network: who has the lock has the turn.
type Slot = Arc<Turn<Option<Done>>>;

/// A turn for each network, so that an older set of ports never comes after a newer one. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Turns {
    turns: Arc<Mutex<HashMap<Uuid, Slot>>>,
}

/// What was done last, as long as somebody waits for the turn.
struct Done {
    /// When it began.
    began: Instant,
    network: NodeNetwork,
    attachment: Attachment,
}

/// The turn of one network. Nobody else has it until this is dropped.
pub(super) struct Taken {
    asked: Instant,
    last: OwnedMutexGuard<Option<Done>>,
}

impl Turns {
    /// Waits until nobody else has it.
    pub async fn take(&self, network: Uuid) -> Taken {
        let asked = Instant::now();
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody waits for or holds are made anew when they are asked for.
            turns.retain(|known, turn| *known == network || Arc::strong_count(turn) > 1);
            turns.entry(network).or_default().clone()
        };
        let last = turn.lock_owned().await;
        Taken { asked, last }
    }
}

impl Taken {
    /// Brings a network up by `act`, or gives back what another one found who began after this turn was asked for, and
    /// brought up the same; where it is for one Port, the same but for others' Ports. So many Instances that come at once
    /// wait for each other, but not for the same work again.
    pub async fn bring_up<E>(
        &mut self,
        network: NodeNetwork,
        port: Option<Uuid>,
        act: impl AsyncFnOnce(&NodeNetwork) -> Result<Attachment, E>,
    ) -> Result<Attachment, E> {
        if let Some(done) = self.last.as_ref()
            && done.began > self.asked
            && is_enough(&done.network, &network, port)
        {
            return Ok(Attachment {
                changed: false,
                ..done.attachment.clone()
            });
        }
        *self.last = None;
        let began = Instant::now();
        let attachment = act(&network).await?;
        *self.last = Some(Done {
            began,
            network,
            attachment: attachment.clone(),
        });
        Ok(attachment)
    }

    /// The network is taken away: nobody can rely on what was brought up.
    pub fn forget(&mut self) {
        *self.last = None;
    }
}

/// Whether what was brought up has all that is wanted: of the Ports only this one, if it is for one.
fn is_enough(done: &NodeNetwork, wanted: &NodeNetwork, port: Option<Uuid>) -> bool {
    let Some(port) = port else { return done == wanted };
    let its = |network: &NodeNetwork| network.ports.iter().find(|its| its.uid == port).cloned();
    let without_ports = |network: &NodeNetwork| NodeNetwork {
        ports: Vec::new(),
        ..network.clone()
    };
    its(wanted).is_some() && its(done) == its(wanted) && without_ports(done) == without_ports(wanted)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use tokio::time::sleep;
    use virga_network::{Mode, NodePort};

    use super::*;

    const NETWORK: Uuid = Uuid::from_u128(1);
    const WORK: Duration = Duration::from_millis(10);

    fn network(generation: i64) -> NodeNetwork {
        NodeNetwork {
            uid: NETWORK,
            namespace: "shop".into(),
            name: "front".into(),
            generation,
            dns_domain: None,
            mtu: None,
            mode: Mode::Nat,
            subnets: Vec::new(),
            ports: Vec::new(),
        }
    }

    async fn bring_up(turns: &Turns, generation: i64, works: &AtomicUsize) -> Result<Attachment, ()> {
        let mut turn = turns.take(NETWORK).await;
        work(&mut turn, network(generation), None, works).await
    }

    async fn work(
        turn: &mut Taken,
        network: NodeNetwork,
        port: Option<Uuid>,
        works: &AtomicUsize,
    ) -> Result<Attachment, ()> {
        turn.bring_up(network, port, async |_| {
            sleep(WORK).await;
            works.fetch_add(1, Ordering::Relaxed);
            Ok(Attachment {
                bridge: "vbr1".into(),
                mtu: None,
                changed: true,
                restart_pending: false,
            })
        })
        .await
    }

    /// With the first so many Ports.
    fn with_ports(count: u8) -> NodeNetwork {
        let port = |n: u8| NodePort {
            uid: Uuid::from_u128(n.into()),
            mac: format!("fa:16:3e:00:00:{n:02x}").parse().unwrap(),
            addresses: Vec::new(),
            hostname: format!("web-{n}"),
        };
        NodeNetwork {
            ports: (0..count).map(port).collect(),
            ..network(1)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_needs_one_port_shares_what_was_brought_up_with_it() {
        let (turns, works) = (Turns::default(), AtomicUsize::new(0));
        let mut held = turns.take(NETWORK).await;
        // Each comes with a Port more than the one before.
        let others = (2..5).map(async |count: u8| {
            let mut turn = turns.take(NETWORK).await;
            work(&mut turn, with_ports(count), Some(Uuid::from_u128(1)), &works).await
        });
        let others = futures::future::join_all(others);
        let held = async {
            sleep(WORK).await;
            work(&mut held, with_ports(2), None, &works).await.unwrap();
            drop(held);
        };
        let (others, ()) = tokio::join!(others, held);
        assert!(others.into_iter().all(|other| !other.unwrap().changed));
        assert_eq!(works.load(Ordering::Relaxed), 1);
        let last = NodeNetwork {
            generation: 2,
            ..with_ports(3)
        };
        let (of_one, one) = (Some(Uuid::from_u128(1)), with_ports(3));
        assert!(!is_enough(&one, &last, of_one), "the Network says something else");
        assert!(!is_enough(&with_ports(1), &one, of_one), "its Port was not there");
        assert!(
            !is_enough(&one, &with_ports(1), of_one),
            "its Port is not wanted any more"
        );
        assert!(!is_enough(&one, &with_ports(2), None), "all Ports are meant");
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_for_the_same_work_share_it() {
        let (turns, works) = (Turns::default(), AtomicUsize::new(0));
        let first = bring_up(&turns, 1, &works);
        let others = async {
            // The first has begun before they ask: what it does may be older than what they want.
            sleep(WORK / 2).await;
            futures::future::join_all((0..10).map(|_| bring_up(&turns, 1, &works))).await
        };
        let (first, others) = tokio::join!(first, others);
        assert!(first.unwrap().changed);
        let changed = others.into_iter().filter(|other| other.as_ref().unwrap().changed);
        assert_eq!(changed.count(), 1, "one of them did it again, for all of them");
        assert_eq!(works.into_inner(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn another_wish_and_a_later_one_are_done() {
        let (turns, works) = (Turns::default(), AtomicUsize::new(0));
        let wishes = (0..3).map(|generation| bring_up(&turns, generation, &works));
        futures::future::join_all(wishes).await;
        assert_eq!(works.load(Ordering::Relaxed), 3);
        bring_up(&turns, 2, &works).await.unwrap();
        assert_eq!(
            works.load(Ordering::Relaxed),
            4,
            "nothing is remembered that nobody waited for"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_taken_away_meanwhile_is_brought_up_again() {
        let (turns, works) = (Turns::default(), AtomicUsize::new(0));
        let held = turns.take(NETWORK).await;
        let waiting = futures::future::join(bring_up(&turns, 1, &works), async {
            turns.take(NETWORK).await.forget();
            bring_up(&turns, 1, &works).await
        });
        let ((first, second), ()) = futures::future::join(waiting, async {
            sleep(WORK).await;
            drop(held);
        })
        .await;
        assert!(first.unwrap().changed && second.unwrap().changed);
        assert_eq!(works.into_inner(), 2);
    }
}
