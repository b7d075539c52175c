//! A guest's serial console as a stream of bytes in both directions.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::error::Result;

/// How much output waits for a slow reader, in bytes. Beyond it the back end stops reading, and the guest's serial port
/// fills up, as a real one would.
const MAX_BUFFERED: usize = 256 << 10;

/// Takes what the user types.
pub trait ConsoleInput: Send {
    /// Sends bytes to the guest and says how many were taken; fewer than given when the guest does not read. Does not
    /// wait for the guest.
    fn write(&mut self, data: &[u8]) -> Result<usize>;
}

/// An open console. Dropping it closes it.
pub struct Console {
    output: Arc<Buffer>,
    input: Box<dyn ConsoleInput>,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").finish_non_exhaustive()
    }
}

impl Console {
    pub(crate) fn new(output: Arc<Buffer>, input: Box<dyn ConsoleInput>) -> Self {
        Console { output, input }
    }

    /// The guest's next output, or `None` when the console was closed: the guest stopped, another session took over, or
    /// the connection was lost. Cancel-safe. The bytes are the guest's: escape them before they reach a log.
    pub async fn read(&mut self) -> Option<Vec<u8>> {
        loop {
            let woken = self.output.wake.notified();
            match self.output.take() {
                Taken::Output(bytes) => return Some(bytes),
                Taken::Closed => return None,
                Taken::Nothing => woken.await,
            }
        }
    }

    /// Sends bytes to the guest and says how many were taken. Does not wait.
    pub fn write(&mut self, data: &[u8]) -> Result<usize> {
        self.input.write(data)
    }
}

/// Output between a back end's thread and the reader.
#[derive(Default)]
pub(crate) struct Buffer {
    state: Mutex<BufferState>,
    wake: Notify,
}

#[derive(Default)]
struct BufferState {
    bytes: VecDeque<u8>,
    closed: bool,
    /// Called when a full buffer was emptied: the back end reads on.
    resume: Option<Box<dyn FnOnce() + Send>>,
}

enum Taken {
    Output(Vec<u8>),
    Nothing,
    Closed,
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").finish_non_exhaustive()
    }
}

impl Buffer {
    fn lock(&self) -> MutexGuard<'_, BufferState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Taken {
        let (taken, resume) = {
            let mut state = self.lock();
            if state.bytes.is_empty() {
                return if state.closed { Taken::Closed } else { Taken::Nothing };
            }
            (state.bytes.drain(..).collect(), state.resume.take())
        };
        if let Some(resume) = resume {
            resume();
        }
        Taken::Output(taken)
    }

    /// How many more bytes fit.
    pub fn room(&self) -> usize {
        MAX_BUFFERED.saturating_sub(self.lock().bytes.len())
    }

    /// Adds output. The caller has asked for `room` before; what is beyond it is kept all the same.
    pub fn push(&self, data: &[u8]) {
        self.lock().bytes.extend(data);
        self.wake.notify_one();
    }

    /// Sets what is called when there is room again. Called at once when there is.
    pub fn when_room(&self, resume: Box<dyn FnOnce() + Send>) {
        {
            let mut state = self.lock();
            if !state.bytes.is_empty() {
                state.resume = Some(resume);
                return;
            }
        }
        resume();
    }

    /// No more output comes.
    pub fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }
}
