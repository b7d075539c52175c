//! The rule is tried in a world where both sides may die between any two steps, and every message may be lost, come
//! late, twice, or in another order.

use std::collections::{BTreeSet, HashSet, VecDeque};

use proptest::prelude::*;

use super::*;

fn content(version: u8) -> Digest {
    Digest::of(&[version])
}

/// What is under way. A message that was sent once may come at any later time, as often as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Message {
    Read,
    Bytes,
    Verified,
    IsVerified,
    Complete,
    IsLetGo,
    IsRevoked,
}

/// What is on the disks, and on the wire. A crash loses nothing of it, only what was not written: so a step that wrote
/// and did not answer is a step whose answer is never delivered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    source: Source,
    receiver: Receiver,
    wire: BTreeSet<Message>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The receiver does what its state says, as it does after a restart.
    Receiver,
    /// A message arrives. `dies` is that the side dies when it has written, before it sends.
    Arrives(Message, bool),
    /// The source's cloud takes the offer back.
    Revoke,
    /// The receiver's cloud gives up.
    GiveUp,
}

const MESSAGES: [Message; 7] = [
    Message::Read,
    Message::Bytes,
    Message::Verified,
    Message::IsVerified,
    Message::Complete,
    Message::IsLetGo,
    Message::IsRevoked,
];

impl World {
    fn new() -> Self {
        Self {
            source: Source::Offered,
            receiver: Receiver::Partial,
            wire: BTreeSet::new(),
        }
    }

    fn take(&self, step: Step) -> Self {
        let mut next = self.clone();
        match step {
            Step::Receiver => next.receiver_goes_on(),
            Step::Arrives(message, dies) if self.wire.contains(&message) => next.deliver(message, dies),
            Step::Arrives(..) => {}
            Step::Revoke => next.source = self.source.after(Asked::Revoke, None).unwrap_or(self.source),
            Step::GiveUp => next.receiver = self.receiver.after(Heard::GiveUp).unwrap_or(self.receiver),
        }
        next
    }

    fn receiver_goes_on(&mut self) {
        match self.receiver {
            Receiver::Partial => _ = self.wire.insert(Message::Read),
            Receiver::Verified { .. } => _ = self.wire.insert(Message::Verified),
            Receiver::Owned { .. } | Receiver::Abandoned => {}
        }
    }

    fn deliver(&mut self, message: Message, dies: bool) {
        let digest = content(1);
        let asked = match message {
            Message::Read => Some((Asked::Read, Message::Bytes)),
            Message::Verified => Some((Asked::Verified(digest), Message::IsVerified)),
            Message::Complete => Some((Asked::Complete(digest), Message::IsLetGo)),
            _ => None,
        };
        if let Some((asked, answer)) = asked {
            let answer = match self.source.after(asked, Some(digest)) {
                Ok(next) => {
                    self.source = next;
                    Some(answer)
                }
                Err(Refused::Revoked) => Some(Message::IsRevoked),
                // The receiver begins again with what its state says.
                Err(Refused::LetGo | Refused::NotVerified | Refused::Mismatch) => None,
            };
            if !dies {
                self.wire.extend(answer);
            }
            return;
        }
        let heard = match message {
            Message::Bytes => Heard::Whole(digest),
            Message::IsLetGo => Heard::LetGo(digest),
            Message::IsRevoked => Heard::Revoked,
            _ => {
                if !dies && matches!(self.receiver, Receiver::Verified { .. }) {
                    self.wire.insert(Message::Complete);
                }
                return;
            }
        };
        self.receiver = self.receiver.after(heard).unwrap_or(self.receiver);
    }

    fn owners(&self) -> usize {
        usize::from(self.source.owns()) + usize::from(self.receiver.owns())
    }

    /// Nobody owns only while a verified copy is at the receiver.
    fn is_safe(&self) -> bool {
        match self.owners() {
            1 => true,
            0 => matches!(self.receiver, Receiver::Verified { .. }),
            _ => false,
        }
    }

    /// Both sides are up again and messages come through.
    fn recovered(&self) -> Self {
        let mut world = self.clone();
        // What was under way before may still come, or not: here it does not.
        world.wire.clear();
        for _ in 0..8 {
            world = world.take(Step::Receiver);
            for message in MESSAGES {
                world = world.take(Step::Arrives(message, false));
            }
            world.wire.clear();
        }
        world
    }
}

fn steps() -> Vec<Step> {
    let arrivals = MESSAGES
        .into_iter()
        .flat_map(|message| [false, true].map(|dies| Step::Arrives(message, dies)));
    arrivals.chain([Step::Receiver, Step::Revoke, Step::GiveUp]).collect()
}

#[test]
fn in_every_world_that_can_be_reached_there_are_never_two_owners_and_after_recovery_there_is_one() {
    let mut seen = HashSet::from([World::new()]);
    let mut queue = VecDeque::from([World::new()]);
    while let Some(world) = queue.pop_front() {
        assert!(world.is_safe(), "{world:?}");
        assert_eq!(
            world.recovered().owners(),
            1,
            "{world:?} comes to {:?}",
            world.recovered()
        );
        for step in steps() {
            let next = world.take(step);
            if seen.insert(next.clone()) {
                queue.push_back(next);
            }
        }
    }
    // Both ends of the story are among them.
    assert!(seen.iter().any(|world| world.receiver.owns()));
    assert!(seen.iter().any(|world| world.receiver == Receiver::Abandoned));
    assert!(
        seen.iter().any(|world| world.owners() == 0),
        "the moment between is there"
    );
    assert!(seen.len() > 30, "{}", seen.len());
}

#[test]
fn left_alone_the_receiver_ends_as_the_owner() {
    let end = World::new().recovered();
    assert!(end.receiver.owns() && !end.source.owns(), "{end:?}");
}

#[test]
fn a_source_that_changed_lets_nobody_have_it() {
    let (old, new) = (content(1), content(2));
    assert_eq!(
        Source::Transferring.after(Asked::Verified(old), Some(new)),
        Err(Refused::Mismatch)
    );
    assert_eq!(
        Source::Transferring.after(Asked::Verified(old), None),
        Err(Refused::Mismatch)
    );
    let verified = Source::Verified { digest: old };
    assert_eq!(verified.after(Asked::Complete(new), Some(new)), Err(Refused::Mismatch));
    assert_eq!(verified.after(Asked::Read, None), Ok(Source::Transferring));
    assert_eq!(
        Source::Offered.after(Asked::Complete(old), Some(old)),
        Err(Refused::NotVerified)
    );
}

fn step() -> impl Strategy<Value = Step> {
    let arrives = (proptest::sample::select(&MESSAGES[..]), any::<bool>());
    prop_oneof![
        8 => arrives.prop_map(|(message, dies)| Step::Arrives(message, dies)),
        4 => Just(Step::Receiver),
        1 => Just(Step::Revoke),
        1 => Just(Step::GiveUp),
    ]
}

fn asked() -> impl Strategy<Value = Asked> {
    let digest = (0_u8..3).prop_map(content);
    prop_oneof![
        Just(Asked::Read),
        digest.clone().prop_map(Asked::Verified),
        digest.prop_map(Asked::Complete),
        Just(Asked::Revoke),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whichever_side_dies_at_whichever_step_one_owner_is_left(walk in proptest::collection::vec(step(), 0..60)) {
        let mut world = World::new();
        for step in walk {
            let next = world.take(step);
            prop_assert!(next.is_safe(), "{world:?} and {step:?} make {next:?}");
            // Who has let go, and who owns, stays so.
            prop_assert!(!next.source.owns() || world.source.owns());
            prop_assert!(next.receiver.owns() || !world.receiver.owns());
            world = next;
        }
        prop_assert_eq!(world.recovered().owners(), 1);
    }

    #[test]
    fn a_source_lets_go_only_of_what_the_receiver_proved_to_have(questions in proptest::collection::vec(asked(), 0..30)) {
        let own = content(0);
        let mut source = Source::Offered;
        for asked in questions {
            let next = source.after(asked, Some(own)).unwrap_or(source);
            if let Source::LetGo { digest } = next {
                prop_assert_eq!(digest, own);
                let already = matches!(source, Source::Verified { .. } | Source::LetGo { .. });
                prop_assert!(already, "from {:?}", source);
            }
            source = next;
        }
    }
}
