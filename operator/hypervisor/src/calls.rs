//! The async face of a [`Hypervisor`]: blocking calls on threads of their own.
//!
//! libvirt can hang: on one guest whose QEMU does not answer, or as a whole. So calls run on a small pool that nothing
//! else shares, calls for one object run one after the other, and each caller waits for a bounded time. A thread that
//! is still in a call when its caller's time is up counts as stuck and is replaced, up to a bound; it comes back when
//! the call returns.
//!
//! A change, such as a guest's start, takes a hundred times as long as a look. So changes never have all threads: a look
//! does not wait until guests of others have started.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::hypervisor::Hypervisor;

/// The bounds of [`Calls`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallsLimits {
    /// Threads that make calls.
    pub threads: usize,
    /// How many of them may be in calls that change something: starts that go on at once.
    pub changes: usize,
    /// Stuck threads that are replaced. Beyond it the pool shrinks, and when no thread is left calls fail at once.
    pub replacements: usize,
    /// Calls that wait for a thread, in all.
    pub queued: usize,
    /// Calls that wait for one object.
    pub queued_per_object: usize,
    /// [Long calls](Calls::long) at once. They take threads like stuck ones, so there are more replacements than these.
    pub long: usize,
    /// [Calls that ask guests](Calls::guest) at once. They take threads as long calls do.
    pub guests: usize,
}

impl Default for CallsLimits {
    fn default() -> Self {
        CallsLimits {
            threads: 6,
            changes: 4,
            replacements: 8,
            queued: 1024,
            queued_per_object: 16,
            long: 4,
            guests: 2,
        }
    }
}

/// What [`Calls`] is doing, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallsLoad {
    /// Calls that wait.
    pub queued: usize,
    /// Calls under way, stuck ones included.
    pub running: usize,
    /// Calls under way whose callers gave up.
    pub stuck: usize,
}

/// Runs calls on threads. Clones share the pool, which ends with the last of them.
#[derive(Clone)]
pub struct Calls {
    pool: Arc<PoolHandle>,
}

struct PoolHandle(Arc<Pool>);

struct Pool {
    hypervisor: Arc<dyn Hypervisor>,
    limits: CallsLimits,
    state: Mutex<State>,
    work: Condvar,
    long: Arc<Semaphore>,
    guests: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    /// Whose turn it is to look, in order. A lane is in one of the two at most once, and not while one of its jobs runs.
    looks: VecDeque<Turn>,
    /// Whose turn it is to change something.
    changes: VecDeque<Turn>,
    /// Lanes with a job that runs or waits.
    lanes: HashMap<Uuid, VecDeque<Job>>,
    running: HashMap<u64, Running>,
    queued: usize,
    /// Threads that are not stuck.
    threads: usize,
    /// Of these, threads that wait for work.
    idle: usize,
    /// Threads that are not stuck and are in a call that changes something.
    changing: usize,
    stuck: usize,
    next_id: u64,
    closed: bool,
}

type Run = Box<dyn FnOnce(&dyn Hypervisor) + Send>;

enum Turn {
    Lane(Uuid),
    Host(Job),
}

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// It reads, which takes moments.
    Look,
    /// It changes something.
    Change,
    /// It takes long by its nature: its thread is replaced at once.
    Long,
}

struct Job {
    /// Later ones have larger numbers.
    id: u64,
    deadline: Instant,
    sort: Sort,
    run: Run,
}

struct Running {
    deadline: Instant,
    stuck: bool,
    changes: bool,
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls")
            .field("load", &self.load())
            .finish_non_exhaustive()
    }
}

impl Calls {
    /// A pool for this hypervisor. Threads are started when calls come.
    pub fn new(hypervisor: Arc<dyn Hypervisor>, limits: CallsLimits) -> Self {
        let pool = Pool {
            hypervisor,
            limits,
            state: Mutex::default(),
            work: Condvar::new(),
            long: Arc::new(Semaphore::new(limits.long)),
            guests: Arc::new(Semaphore::new(limits.guests)),
        };
        Calls {
            pool: Arc::new(PoolHandle(Arc::new(pool))),
        }
    }

    /// A call that changes one domain. Calls for the same domain run one after the other, in the order in which they came.
    ///
    /// When `deadline` passes first the answer is [`Error::Timeout`]: a call that still waited is taken back, one under
    /// way goes on and keeps the domain's other calls waiting. Dropping the future takes back a waiting call too.
    pub async fn domain<T, F>(&self, uuid: Uuid, deadline: Duration, call: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Hypervisor) -> Result<T> + Send + 'static,
    {
        let doing = format!("calling the hypervisor for domain {uuid}");
        self.submit(Some(uuid), Sort::Change, doing, deadline, call).await
    }

    /// A call that only reads of one domain. Like [`Calls::domain`], but it does not wait for a thread until other domains'
    /// changes are made.
    pub async fn look<T, F>(&self, uuid: Uuid, deadline: Duration, call: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Hypervisor) -> Result<T> + Send + 'static,
    {
        let doing = format!("asking the hypervisor of domain {uuid}");
        self.submit(Some(uuid), Sort::Look, doing, deadline, call).await
    }

    /// A call for one domain that is known to take long, such as [`Hypervisor::save`]. Like [`Calls::domain`], but other
    /// domains' calls don't wait for its thread, and at most [`CallsLimits::long`] of them go on at once: one more is
    /// [`Error::Busy`].
    pub async fn long<T, F>(&self, uuid: Uuid, deadline: Duration, call: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Hypervisor) -> Result<T> + Send + 'static,
    {
        let doing = format!("calling the hypervisor for domain {uuid}");
        let Ok(permit) = Arc::clone(&self.pool.0.long).try_acquire_owned() else {
            return Err(Error::busy(doing, "too many calls that take long go on"));
        };
        // Given back when the call ends, which may be long after its caller gave up.
        let call = move |hypervisor: &dyn Hypervisor| {
            let result = call(hypervisor);
            drop(permit);
            result
        };
        self.submit(Some(uuid), Sort::Long, doing, deadline, call).await
    }

    /// A call that a guest answers, such as [`Hypervisor::guest_info`]. It takes as long as the guest likes, so nothing waits
    /// for it: not the domain's other calls, which it is not ordered with, and not other domains'. When too many guests
    /// are asked at once it waits for its turn.
    pub async fn guest<T, F>(&self, uuid: Uuid, deadline: Duration, call: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Hypervisor) -> Result<T> + Send + 'static,
    {
        let doing = format!("asking the guest of domain {uuid}");
        let turn = Arc::clone(&self.pool.0.guests).acquire_owned();
        let Ok(Ok(permit)) = tokio::time::timeout(deadline, turn).await else {
            return Err(Error::busy(doing, "too many guests are being asked"));
        };
        // Given back when the call ends, which may be long after its caller gave up.
        let call = move |hypervisor: &dyn Hypervisor| {
            let result = call(hypervisor);
            drop(permit);
            result
        };
        // A lane of its own: no domain has this UUID but by chance, and then they take turns.
        let lane = Uuid::from_u128(!uuid.as_u128());
        self.submit(Some(lane), Sort::Long, doing, deadline, call).await
    }

    /// A call for one network. Like [`Calls::domain`].
    pub async fn network<T, F>(&self, uuid: Uuid, deadline: Duration, call: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Hypervisor) -> Result<T> + Send + 'static,
    {
        let doing = format!("calling the hypervisor for network {uuid}");
        self.submit(Some(uuid), Sort::Change, doing, deadline, call).await
    }

    /// A call that only reads and belongs to no object: facts, lists. Waits for no other call.
    pub async fn host<T, F>(&self, deadline: Duration, call: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Hypervisor) -> Result<T> + Send + 'static,
    {
        let doing = "calling the hypervisor".to_owned();
        self.submit(None, Sort::Look, doing, deadline, call).await
    }

    /// What is going on.
    pub fn load(&self) -> CallsLoad {
        let state = self.pool.0.lock();
        CallsLoad {
            queued: state.queued,
            running: state.running.len(),
            stuck: state.stuck,
        }
    }

    async fn submit<T, F>(
        &self,
        lane: Option<Uuid>,
        sort: Sort,
        doing: String,
        deadline: Duration,
        call: F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Hypervisor) -> Result<T> + Send + 'static,
    {
        let (answer, receiver) = oneshot::channel();
        let run = Box::new(move |hypervisor: &dyn Hypervisor| {
            let _ = answer.send(call(hypervisor));
        });
        let due = Instant::now() + deadline;
        let id = self
            .pool
            .0
            .enqueue(lane, sort, due, run)
            .map_err(|refusal| refusal.into_error(doing.clone()))?;
        let ticket = Ticket {
            pool: &self.pool.0,
            id,
            lane,
        };
        match tokio::time::timeout_at(due, receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::failed(
                doing,
                "the call ended without an answer: it panicked, or the pool closed",
            )),
            Err(_) => {
                ticket.pool.give_up(id);
                Err(Error::Timeout {
                    doing,
                    waited: deadline,
                })
            }
        }
    }
}

/// A caller's place in the queue. Given back when the caller stops waiting.
struct Ticket<'a> {
    pool: &'a Arc<Pool>,
    id: u64,
    lane: Option<Uuid>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.pool.lock().take_back(self.id, self.lane) {
            // What waited behind it may be a look, for which a thread is idle.
            self.pool.work.notify_one();
        }
    }
}

enum Refusal {
    Full(&'static str),
    NoThread,
}

impl Refusal {
    fn into_error(self, doing: String) -> Error {
        match self {
            Refusal::Full(which) => Error::busy(doing, which),
            Refusal::NoThread => Error::unavailable(doing, "every thread that could call it is stuck in a call"),
        }
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(self: &Arc<Self>, lane: Option<Uuid>, sort: Sort, deadline: Instant, run: Run) -> Result<u64, Refusal> {
        let mut state = self.lock();
        if state.mark_overdue() {
            self.work.notify_all();
        }
        if state.queued >= self.limits.queued {
            return Err(Refusal::Full("too many calls wait"));
        }
        let waiting = lane.and_then(|lane| state.lanes.get(&lane)).map_or(0, VecDeque::len);
        if waiting >= self.limits.queued_per_object {
            return Err(Refusal::Full("too many calls wait for this object"));
        }
        let id = state.next_id;
        state.next_id += 1;
        state.queued += 1;
        let job = Job {
            id,
            deadline,
            sort,
            run,
        };
        match lane {
            None => state.turns(sort).push_back(Turn::Host(job)),
            Some(lane) => {
                if let Some(queue) = state.lanes.get_mut(&lane) {
                    queue.push_back(job);
                } else {
                    state.lanes.insert(lane, VecDeque::from([job]));
                    state.turns(sort).push_back(Turn::Lane(lane));
                }
            }
        }
        self.staff(&mut state);
        if state.threads == 0 {
            state.take_back(id, lane);
            return Err(Refusal::NoThread);
        }
        self.work.notify_one();
        Ok(id)
    }

    /// A caller's time is up: if its call is under way, the thread in it is stuck.
    fn give_up(self: &Arc<Self>, id: u64) {
        let mut state = self.lock();
        state.mark_stuck(id);
        self.staff(&mut state);
        // An idle thread may have waited for fewer changes.
        self.work.notify_all();
    }

    /// Starts as many threads as there are turns that no idle thread takes, within the limits.
    fn staff(self: &Arc<Self>, state: &mut State) {
        while !state.closed
            && state.looks.len() + state.changes.len() > state.idle
            && state.threads < self.limits.threads
            && state.threads + state.stuck < self.limits.threads + self.limits.replacements
        {
            let pool = Arc::clone(self);
            match std::thread::Builder::new()
                .name("hypervisor-call".to_owned())
                .spawn(move || pool.work())
            {
                // Idle until it takes its first turn, so that one turn starts one thread.
                Ok(_) => (state.threads, state.idle) = (state.threads + 1, state.idle + 1),
                Err(error) => {
                    tracing::error!(%error, "starting a thread for hypervisor calls");
                    return;
                }
            }
        }
    }

    /// A thread's life. Ends when the pool is closed, or when it was stuck and has been replaced since.
    fn work(self: &Arc<Self>) {
        let mut state = self.lock();
        loop {
            let Some((lane, job)) = state.next_job(self.limits.changes) else {
                if state.closed {
                    return;
                }
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.idle -= 1;
            let id = job.id;
            let changes = job.sort == Sort::Change;
            state.changing += usize::from(changes);
            state.running.insert(
                id,
                Running {
                    deadline: job.deadline,
                    stuck: false,
                    changes,
                },
            );
            if job.sort == Sort::Long {
                state.mark_stuck(id);
                self.staff(&mut state);
            }
            drop(state);
            if catch_unwind(AssertUnwindSafe(|| (job.run)(&*self.hypervisor))).is_err() {
                tracing::error!("a hypervisor call panicked");
            }
            state = self.lock();
            let was_stuck = state.running.remove(&id).is_some_and(|running| running.stuck);
            state.changing -= usize::from(changes && !was_stuck);
            if let Some(lane) = lane {
                state.end_turn(lane);
                self.work.notify_one();
            }
            if was_stuck {
                state.stuck -= 1;
                if state.threads >= self.limits.threads || state.closed {
                    return;
                }
                state.threads += 1;
            }
            state.idle += 1;
        }
    }
}

impl State {
    /// Where calls of this sort wait for their turn.
    fn turns(&mut self, sort: Sort) -> &mut VecDeque<Turn> {
        match sort {
            Sort::Change => &mut self.changes,
            Sort::Look | Sort::Long => &mut self.looks,
        }
    }

    /// The call that came first, of those that may be made while so many changes are allowed.
    fn next_job(&mut self, changes: usize) -> Option<(Option<Uuid>, Job)> {
        loop {
            let change = self.first(Sort::Change);
            let look = self.first(Sort::Look);
            // Asked again: the one may have sent a lane to the other.
            let change = change.or_else(|| self.first(Sort::Change));
            let change = change.filter(|_| self.changing < changes);
            let sort = match (look, change) {
                (None, None) => return None,
                (Some(look), Some(change)) if change < look => Sort::Change,
                (Some(_), _) => Sort::Look,
                (None, Some(_)) => Sort::Change,
            };
            match self.turns(sort).pop_front()? {
                Turn::Host(job) => {
                    self.queued -= 1;
                    return Some((None, job));
                }
                Turn::Lane(lane) => {
                    if let Some(job) = self.lanes.get_mut(&lane).and_then(VecDeque::pop_front) {
                        self.queued -= 1;
                        return Some((Some(lane), job));
                    }
                }
            }
        }
    }

    /// The number of the first call that waits there. A lane whose calls were taken back leaves; one whose first call is now
    /// of another sort waits with those.
    fn first(&mut self, there: Sort) -> Option<u64> {
        loop {
            let lane = match self.turns(there).front()? {
                Turn::Host(job) => return Some(job.id),
                Turn::Lane(lane) => *lane,
            };
            match self.lanes.get(&lane).and_then(VecDeque::front) {
                Some(job) if (job.sort == Sort::Change) == (there == Sort::Change) => return Some(job.id),
                Some(job) => {
                    let sort = job.sort;
                    self.turns(there).pop_front();
                    self.turns(sort).push_back(Turn::Lane(lane));
                }
                None => {
                    self.turns(there).pop_front();
                    self.lanes.remove(&lane);
                }
            }
        }
    }

    fn end_turn(&mut self, lane: Uuid) {
        match self.lanes.get(&lane).map(|queue| queue.front().map(|job| job.sort)) {
            Some(Some(sort)) => self.turns(sort).push_back(Turn::Lane(lane)),
            _ => {
                self.lanes.remove(&lane);
            }
        }
    }

    fn mark_stuck(&mut self, id: u64) {
        if let Some(running) = self.running.get_mut(&id).filter(|running| !running.stuck) {
            running.stuck = true;
            self.changing -= usize::from(running.changes);
            self.stuck += 1;
            self.threads -= 1;
        }
    }

    /// Finds calls that nobody waits for any more because their futures were dropped. Whether there were any.
    fn mark_overdue(&mut self) -> bool {
        let now = Instant::now();
        let overdue = |running: &Running| !running.stuck && running.deadline < now;
        let ids: Vec<u64> = self
            .running
            .iter()
            .filter(|(_, running)| overdue(running))
            .map(|(id, _)| *id)
            .collect();
        for id in &ids {
            self.mark_stuck(*id);
        }
        !ids.is_empty()
    }

    /// Takes a call back that still waits. Whether it did.
    fn take_back(&mut self, id: u64, lane: Option<Uuid>) -> bool {
        let queued = self.queued;
        match lane {
            None => {
                let before = self.looks.len();
                self.looks
                    .retain(|turn| !matches!(turn, Turn::Host(job) if job.id == id));
                self.queued -= before - self.looks.len();
            }
            Some(lane) => {
                if let Some(queue) = self.lanes.get_mut(&lane) {
                    let before = queue.len();
                    queue.retain(|job| job.id != id);
                    self.queued -= before - queue.len();
                }
            }
        }
        self.queued < queued
    }
}

impl Drop for PoolHandle {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.looks.clear();
        state.changes.clear();
        state.lanes.clear();
        state.queued = 0;
        drop(state);
        self.0.work.notify_all();
    }
}
