//! A serial console over a libvirt stream.

use std::ffi::{c_int, c_void};
use std::sync::{Arc, Weak};

use virt::domain::Domain;
use virt::stream::Stream;
use virt::sys;

use super::connection::Connection;
use super::error;
use crate::console::{Buffer, Console, ConsoleInput};
use crate::error::Result;

/// What virStreamRecv and virStreamSend say on a non-blocking stream that is not ready.
const WOULD_BLOCK: isize = -2;
/// How much is read at once; libvirt's messages carry up to 256 KiB.
const CHUNK: usize = 64 << 10;
const ENDED: u32 = sys::VIR_STREAM_EVENT_ERROR | sys::VIR_STREAM_EVENT_HANGUP;
const READABLE: u32 = sys::VIR_STREAM_EVENT_READABLE | ENDED;

/// An open stream; closed with the last reference. The connection is kept because the stream needs it.
struct Session {
    stream: Stream,
    connection: Arc<Connection>,
}

/// What the callback works on. It must not keep the session open, so it holds it weakly.
struct Reader {
    session: Weak<Session>,
    buffer: Arc<Buffer>,
}

struct Input {
    session: Arc<Session>,
    buffer: Arc<Buffer>,
}

pub(super) fn open(
    connection: &Arc<Connection>,
    domain: &Domain,
    force: bool,
) -> std::result::Result<Console, virt::error::Error> {
    let stream = Stream::new(connection.get(), sys::VIR_STREAM_NONBLOCK)?;
    domain.open_console(None, &stream, if force { sys::VIR_DOMAIN_CONSOLE_FORCE } else { 0 })?;
    let session = Arc::new(Session {
        stream,
        connection: Arc::clone(connection),
    });
    let buffer = Arc::new(Buffer::default());
    let reader = Box::new(Reader {
        session: Arc::downgrade(&session),
        buffer: Arc::clone(&buffer),
    });
    let opaque = Box::into_raw(reader).cast::<c_void>();
    // SAFETY: the stream's pointer is valid as long as `session` lives, and `Session::drop` removes the callback before
    // it frees the stream. `opaque` is a boxed Reader, which is what `on_event` and `free_reader` take it for; libvirt
    // calls `free_reader` once, after the last call of `on_event`.
    let result = unsafe {
        sys::virStreamEventAddCallback(
            session.stream.as_ptr(),
            READABLE.cast_signed(),
            Some(on_event),
            opaque,
            Some(free_reader),
        )
    };
    if result < 0 {
        let error = virt::error::Error::last_error();
        // SAFETY: nothing was registered, so `free_reader` will not be called for this box, which came from
        // `Box::into_raw` above.
        unsafe { free_reader(opaque) };
        return Err(error);
    }
    Ok(Console::new(Arc::clone(&buffer), Box::new(Input { session, buffer })))
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: the stream's pointer is valid until `self.stream` is dropped, after this. Both calls fail harmlessly
        // on a stream that has ended.
        unsafe {
            sys::virStreamEventRemoveCallback(self.stream.as_ptr());
            sys::virStreamAbort(self.stream.as_ptr());
        }
    }
}

impl Session {
    fn listen_for(&self, events: u32) {
        // SAFETY: the stream's pointer is valid as long as `self` lives.
        unsafe { sys::virStreamEventUpdateCallback(self.stream.as_ptr(), events.cast_signed()) };
    }

    /// What is there to read goes into the buffer. Says whether the stream goes on.
    fn drain(self: &Arc<Self>, buffer: &Buffer) -> bool {
        let mut chunk = vec![0_u8; CHUNK];
        loop {
            let room = buffer.room().min(CHUNK);
            if room == 0 {
                // Backpressure: stop listening for data until the reader has taken what there is.
                self.listen_for(ENDED);
                let session = Arc::downgrade(self);
                buffer.when_room(Box::new(move || {
                    if let Some(session) = session.upgrade() {
                        session.listen_for(READABLE);
                    }
                }));
                return true;
            }
            match self.stream.recv(&mut chunk[..room]) {
                Ok(WOULD_BLOCK) => return true,
                Ok(count) => match usize::try_from(count) {
                    Ok(count) if count > 0 => buffer.push(&chunk[..count]),
                    _ => return false,
                },
                Err(_) => return false,
            }
        }
    }
}

impl ConsoleInput for Input {
    fn write(&mut self, data: &[u8]) -> Result<usize> {
        let mut sent = 0;
        while sent < data.len() {
            match self.session.stream.send(&data[sent..]) {
                Ok(WOULD_BLOCK) => break,
                Ok(count) => match usize::try_from(count) {
                    Ok(count) if count > 0 => sent += count,
                    _ => break,
                },
                Err(error) => {
                    self.buffer.close();
                    return Err(error::explain(
                        &self.session.connection,
                        "writing to a console",
                        "the console",
                        &error,
                    ));
                }
            }
        }
        Ok(sent)
    }
}

/// # Safety
/// libvirt calls it with the `opaque` of its registration: a boxed `Reader` not yet freed.
unsafe extern "C" fn on_event(_stream: sys::virStreamPtr, events: c_int, opaque: *mut c_void) {
    // SAFETY: see the contract of this function; the reference does not outlive the call.
    let reader = unsafe { &*opaque.cast::<Reader>() };
    let Some(session) = reader.session.upgrade() else {
        return;
    };
    // Data can come together with the end: take it first.
    let goes_on = session.drain(&reader.buffer);
    if !goes_on || events.cast_unsigned() & ENDED != 0 {
        session.listen_for(0);
        reader.buffer.close();
    }
}

/// # Safety
/// `opaque` is a box of `Reader` made by `open`, and this is called once for it.
unsafe extern "C" fn free_reader(opaque: *mut c_void) {
    // SAFETY: see the contract of this function.
    drop(unsafe { Box::from_raw(opaque.cast::<Reader>()) });
}
