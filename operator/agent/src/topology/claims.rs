//! Giving the host's CPUs, pages and devices to Instances: one after the other, and each noted before it is used.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use uuid::Uuid;
use virga_core::{
    flavor::Shape,
    instance::{pinning, told},
};
use virga_crds::InstanceTopology;
use virga_scheduler::topology::{HostTopology, Limits, Occupied, Pinning, fit};

use super::{
    Error,
    record::{self, Note},
};
use crate::layout::Layout;

/// What the Instances of this host have of its CPUs, pages and devices.
///
/// The notes beside their disks are the only record, read anew for each claim: an agent that starts has nothing to
/// rebuild, and what an Instance has is free when its directory is gone.
#[derive(Clone)]
pub struct Topologies {
    layout: Layout,
    /// From looking at what the others have until the note is written.
    turn: Arc<Mutex<()>>,
}

/// What an Instance asks for, and of what.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The Flavor that asks for it.
    pub flavor: String,
    /// What the host offers.
    pub host: HostTopology,
    /// How often it may be promised.
    pub limits: Limits,
    /// What is asked for.
    pub shape: Shape,
}

impl Topologies {
    /// Those of the Instances that have a directory here.
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            turn: Arc::default(),
        }
    }

    /// What an Instance has.
    pub async fn held(&self, uid: Uuid) -> Result<Option<InstanceTopology>, Error> {
        Ok(self.note(uid).await?.and_then(|note| note.told().cloned()))
    }

    pub(super) async fn note(&self, uid: Uuid) -> Result<Option<Note>, Error> {
        let files = self.layout.instance(uid);
        blocking(move || Ok(record::read(&files)?)).await
    }

    /// What all have.
    pub async fn all(&self) -> Result<Vec<(Uuid, InstanceTopology)>, Error> {
        let layout = self.layout.clone();
        let notes = blocking(move || all(&layout)).await?;
        let held = notes.into_iter().filter(|(_, note)| note.told().is_some());
        Ok(held.map(|(uid, note)| (uid, note.topology)).collect())
    }

    /// Gives an Instance what a size asks for beside what the others have, or what it was given for that size before. If it
    /// `keeps` what it has for another one, that is until [`settle`](Self::settle).
    pub async fn claim(&self, uid: Uuid, wish: Wish, keeps: bool) -> Result<Pinning, Error> {
        let (layout, turn) = (self.layout.clone(), self.turn.clone());
        blocking(move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            let files = layout.instance(uid);
            let own = record::read(&files)?;
            if let Some(note) = own.as_ref().filter(|note| note.flavor == wish.flavor) {
                return Ok(pinning(&note.topology));
            }
            let (mut former, mut again) = (own, None);
            if let Some(note) = &mut former {
                again = note.former.take().filter(|before| before.flavor == wish.flavor);
            }
            let (topology, fitted) = if let Some(again) = again {
                let fitted = pinning(&again.topology);
                (again.topology, fitted)
            } else {
                let fitted = fitting(&layout, uid, &wish)?;
                (told(&fitted).unwrap_or_default(), fitted)
            };
            let note = Note {
                topology,
                flavor: wish.flavor,
                former: former.filter(|_| keeps).map(Box::new),
            };
            if note.told().is_some() || note.former.is_some() {
                record::write(&files, &note)?;
            } else {
                record::remove(&files)?;
            }
            Ok(fitted)
        })
        .await
    }

    /// Whether a claim would be granted now.
    pub async fn has_room(&self, uid: Uuid, wish: Wish) -> Result<(), Error> {
        let (layout, turn) = (self.layout.clone(), self.turn.clone());
        blocking(move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            fitting(&layout, uid, &wish).map(drop)
        })
        .await
    }

    /// A resize is over: of what an Instance has for two sizes, this one's is left.
    pub async fn settle(&self, uid: Uuid, flavor: String) -> Result<(), Error> {
        let (files, turn) = (self.layout.instance(uid), self.turn.clone());
        blocking(move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(mut note) = record::read(&files)? else {
                return Ok(());
            };
            let Some(former) = note.former.take() else {
                return Ok(());
            };
            let left = if former.flavor == flavor { *former } else { note };
            match left.told() {
                Some(_) => record::write(&files, &left)?,
                None => record::remove(&files)?,
            }
            Ok(())
        })
        .await
    }

    /// Lets go of what an Instance has of which nothing else exists here.
    pub async fn release(&self, uid: Uuid) -> Result<(), Error> {
        let (files, turn) = (self.layout.instance(uid), self.turn.clone());
        blocking(move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(record::remove(&files)?)
        })
        .await
    }
}

/// What an Instance gets beside what the others have. What it has itself it can have again.
fn fitting(layout: &Layout, uid: Uuid, wish: &Wish) -> Result<Pinning, Error> {
    let mut occupied = Occupied::default();
    for (_, note) in all(layout)?.into_iter().filter(|(other, _)| *other != uid) {
        occupied.add(&pinning(&note.topology));
        if let Some(former) = &note.former {
            occupied.add(&pinning(&former.topology));
        }
    }
    let shape = &wish.shape;
    Ok(fit(
        &wish.host,
        &occupied,
        wish.limits,
        shape.topology.as_ref(),
        &shape.devices,
    )?)
}

/// A directory without an Instance counts too: until it is removed, its domain may be there.
fn all(layout: &Layout) -> Result<Vec<(Uuid, Note)>, Error> {
    let instances = layout.instances();
    let unreadable = |source| record::Error::io("reading", &instances)(source);
    let mut held = Vec::new();
    for entry in std::fs::read_dir(&instances).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        // What isn't named by us is not ours.
        let Some(uid) = Path::new(&name).to_str().and_then(|name| name.parse::<Uuid>().ok()) else {
            continue;
        };
        if let Some(note) = record::read(&layout.instance(uid))? {
            held.push((uid, note));
        }
    }
    Ok(held)
}

/// Not to be given up half-way: what began ends, whether somebody waits for it or not.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|stopped| {
        let source = io::Error::other(stopped);
        Err(record::Error::io("looking at", Path::new("what Instances have of the host"))(source).into())
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use virga_scheduler::{
        Ratio,
        topology::{CpuSet, EmulatorThreads, GuestCell, GuestTopology, HostCell, Misfit, ThreadPolicy},
    };

    use super::*;

    fn cpus(text: &str) -> CpuSet {
        text.parse().unwrap()
    }

    /// Two CPUs to itself, of a host that has these.
    fn wish(dedicated: &str) -> Wish {
        Wish {
            flavor: "m1.pinned".into(),
            host: HostTopology {
                cells: vec![HostCell {
                    id: 0,
                    socket: 0,
                    shared: CpuSet::new(),
                    dedicated: cpus(dedicated),
                    siblings: Vec::new(),
                    memory_bytes: 8 << 30,
                    pages: Vec::new(),
                }],
                devices: Vec::new(),
            },
            limits: Limits {
                vcpus: Ratio::FOUR,
                memory: Ratio::ONE,
            },
            shape: Shape {
                topology: Some(GuestTopology {
                    cells: vec![GuestCell {
                        vcpus: cpus("0,1"),
                        dedicated: cpus("0,1"),
                        memory_bytes: 1 << 30,
                    }],
                    page_size: None,
                    thread_policy: ThreadPolicy::Prefer,
                    emulator_threads: EmulatorThreads::WithGuest,
                }),
                devices: Vec::new(),
            },
        }
    }

    fn layout() -> (tempfile::TempDir, Layout) {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        layout.create().unwrap();
        (directory, layout)
    }

    fn own(pinning: &Pinning) -> BTreeSet<u32> {
        let pins = pinning.cells.iter().flat_map(|cell| &cell.pins);
        pins.map(|(_, cpu)| *cpu).collect()
    }

    #[tokio::test]
    async fn of_many_that_ask_at_once_no_two_get_one_cpu_and_each_keeps_what_it_got() {
        let (_directory, layout) = layout();
        let claims = Topologies::new(layout.clone());
        let all =
            futures::future::join_all((0..6_u128).map(|n| claims.claim(Uuid::from_u128(n), wish("0-7"), true))).await;
        let given: Vec<_> = all.iter().flatten().map(own).collect();
        assert_eq!(given.len(), 4);
        let different: BTreeSet<u32> = given.iter().flatten().copied().collect();
        assert_eq!(different, (0..8).collect());
        let refused = all
            .iter()
            .filter(|claim| matches!(claim, Err(Error::Misfit(_))))
            .count();
        assert_eq!(refused, 2);

        // Another agent, on a host that was cut anew meanwhile.
        let after = Topologies::new(layout);
        for (n, first) in (0..6_u128).zip(&all) {
            let again = after.claim(Uuid::from_u128(n), wish("6-9"), true).await;
            if let Ok(first) = first {
                assert_eq!(&again.unwrap(), first);
            }
        }
    }

    #[tokio::test]
    async fn what_is_let_go_of_is_given_out_again() {
        let (_directory, layout) = layout();
        let claims = Topologies::new(layout.clone());
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        claims.claim(first, wish("0,1"), true).await.unwrap();
        let refused = claims.claim(second, wish("0,1"), true).await.unwrap_err();
        assert!(
            matches!(refused, Error::Misfit(Misfit::Dedicated { free: 0, needed: 2 })),
            "{refused}"
        );
        assert!(!layout.instance(second).directory().exists());
        claims.release(first).await.unwrap();
        assert!(!layout.instance(first).directory().exists());
        assert_eq!(
            own(&claims.claim(second, wish("0,1"), true).await.unwrap()),
            [0, 1].into()
        );
        // A directory with disks stays.
        std::fs::write(layout.instance(second).root_disk(), "").unwrap();
        claims.release(second).await.unwrap();
        assert!(layout.instance(second).root_disk().exists());
        assert_eq!(claims.held(second).await.unwrap(), None);
    }

    #[tokio::test]
    async fn both_sizes_are_kept_until_a_resize_is_over() {
        let (_directory, layout) = layout();
        let claims = Topologies::new(layout.clone());
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let sized = |flavor: &str, count: u32| {
            let mut wish = wish("0-5");
            let cpus: CpuSet = (0..count).collect();
            let cell = &mut wish.shape.topology.as_mut().unwrap().cells[0];
            (cell.vcpus, cell.dedicated) = (cpus.clone(), cpus);
            Wish {
                flavor: flavor.into(),
                ..wish
            }
        };
        let shared = || Wish {
            flavor: "m1.shared".into(),
            shape: Shape::default(),
            ..wish("0-5")
        };
        let two = own(&claims.claim(first, sized("two", 2), true).await.unwrap());
        claims.claim(second, sized("two", 2), true).await.unwrap();
        let four = claims.claim(first, sized("four", 4), true).await.unwrap();
        assert_eq!(own(&four).len(), 4, "its own two are among those that it can have");
        assert_eq!(claims.claim(first, sized("four", 4), true).await.unwrap(), four);
        let full = claims.has_room(second, sized("three", 3)).await.unwrap_err();
        assert!(
            matches!(full, Error::Misfit(Misfit::Dedicated { free: 2, needed: 3 })),
            "{full}"
        );
        // Taken back.
        assert_eq!(own(&claims.claim(first, sized("two", 2), true).await.unwrap()), two);
        claims.settle(first, "two".into()).await.unwrap();
        claims.has_room(second, sized("three", 3)).await.unwrap();
        // To a size that has none of its own, and final.
        claims.claim(first, shared(), true).await.unwrap();
        assert_eq!(claims.held(first).await.unwrap(), None);
        assert!(
            claims.has_room(second, sized("six", 6)).await.is_err(),
            "it may go back"
        );
        claims.settle(first, "m1.shared".into()).await.unwrap();
        claims.settle(first, "m1.shared".into()).await.unwrap();
        claims.has_room(second, sized("six", 6)).await.unwrap();
        // From none.
        claims.claim(first, shared(), true).await.unwrap();
        assert!(!layout.instance(first).topology().exists());
        claims.claim(first, sized("four", 4), true).await.unwrap();
        claims.settle(first, "four".into()).await.unwrap();
        assert_eq!(
            own(&claims.claim(first, sized("four", 4), true).await.unwrap()).len(),
            4
        );
        // Asked for differently before it was built: nothing to go back to.
        claims.claim(first, sized("two", 2), false).await.unwrap();
        claims.has_room(second, sized("three", 3)).await.unwrap();
    }

    #[tokio::test]
    async fn a_note_that_can_t_be_read_stops_all_claims_and_names_the_file() {
        let (_directory, layout) = layout();
        let claims = Topologies::new(layout.clone());
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        claims.claim(first, wish("0-3"), true).await.unwrap();
        std::fs::write(layout.instance(first).topology(), "{\"cells\": [").unwrap();
        let error = claims.claim(second, wish("0-3"), true).await.unwrap_err().to_string();
        assert!(
            error.contains("topology.json") && error.contains("put it right"),
            "{error}"
        );
        // A write that was cut short left a file of another name: that is none.
        std::fs::remove_file(layout.instance(first).topology()).unwrap();
        std::fs::write(layout.instance(first).directory().join("topology.tmp"), "{").unwrap();
        claims.claim(second, wish("0-3"), true).await.unwrap();
    }
}
