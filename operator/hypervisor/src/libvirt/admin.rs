//! libvirtd's administration socket: two calls of its RPC protocol (libvirt's admin_protocol.x and "libvirt RPC
//! infrastructure").
//!
//! libvirt-admin.so would make them, but can't be loaded beside libvirt.so: both register the same GObject types
//! (libvirt 11.3).

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const PROGRAM: u32 = 0x0690_0690;
const VERSION: u32 = 1;
const CONNECT_OPEN: u32 = 1;
/// Since libvirt 11.2; an older daemon answers with an error.
const DAEMON_SHUTDOWN: u32 = 20;
const CALL: u32 = 0;
const OK: u32 = 0;
/// Length, program, version, procedure, type, serial, status.
const HEADER: usize = 7;
/// A header and one argument, in bytes.
const LENGTH: u32 = 32;
/// An answer to these calls is a header, or a header and an error.
const LONGEST_ANSWER: u32 = 64 * 1024;
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the daemon to end; guests run on. Whoever keeps it (systemd, by its socket) starts it again.
pub(super) fn shut_down(socket: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    call(&mut stream, CONNECT_OPEN, 0)?;
    call(&mut stream, DAEMON_SHUTDOWN, 1)
}

/// One call with the argument `flags`, which is 0.
fn call(stream: &mut UnixStream, procedure: u32, serial: u32) -> io::Result<()> {
    let words = [LENGTH, PROGRAM, VERSION, procedure, CALL, serial, OK, 0];
    stream.write_all(&words.map(u32::to_be_bytes).concat())?;
    let mut header = [0; 4 * HEADER];
    stream.read_exact(&mut header)?;
    let word = |place: usize| u32::from_be_bytes(std::array::from_fn(|byte| header[4 * place + byte]));
    if word(6) == OK {
        return Ok(());
    }
    let mut error = Vec::new();
    let left = word(0).min(LONGEST_ANSWER).saturating_sub(28);
    stream.take(left.into()).read_to_end(&mut error)?;
    Err(io::Error::other(message(&error)))
}

/// The text of an error: after its code and domain an optional string, as XDR writes it.
fn message(error: &[u8]) -> String {
    let word = |place: usize| Some(u32::from_be_bytes(error.get(4 * place..)?.first_chunk().copied()?));
    let text = || {
        let length = usize::try_from(word(3).filter(|_| word(2) == Some(1))?).ok()?;
        error.get(16..16_usize.checked_add(length)?)
    };
    text().map_or_else(
        || "it refused".to_owned(),
        |text| crate::clean::clean(&String::from_utf8_lossy(text)),
    )
}
