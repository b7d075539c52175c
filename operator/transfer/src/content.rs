//! What is in a file, holes included? One digest over all bytes a reader would see.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use sha2::{Digest as _, Sha256};
use virga_images::Digest;

use crate::{extents, name::hex};

/// How much is read and hashed at a time.
const PIECE: usize = 1024 * 1024;
static ZEROS: [u8; PIECE] = [0; PIECE];

/// The hashing of one file, seen from outside.
#[derive(Debug, Default)]
pub(crate) struct Hashing {
    /// Bytes that are hashed.
    pub(crate) done: AtomicU64,
    /// Set to end it before its time.
    pub(crate) stop: AtomicBool,
}

/// The SHA-256 of the first `length` bytes. Blocks. Holes are hashed as zeros without being read.
///
/// A file that is shorter is an error of the kind `UnexpectedEof`; an end before its time is one of the kind
/// `Interrupted`.
pub(crate) fn digest(file: &File, length: u64, hashing: &Hashing) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut at = 0;
    let mut buffer = vec![0; PIECE];
    let mut feed = |from: u64, to: u64, is_data: bool| -> io::Result<()> {
        let mut at = from;
        while at < to {
            if hashing.stop.load(Ordering::Relaxed) {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "the transfer has ended"));
            }
            let len = usize::try_from(to - at).unwrap_or(PIECE).min(PIECE);
            if is_data {
                file.read_exact_at(&mut buffer[..len], at)?;
                hasher.update(&buffer[..len]);
            } else {
                hasher.update(&ZEROS[..len]);
            }
            at += len as u64;
            hashing.done.store(at, Ordering::Relaxed);
        }
        Ok(())
    };
    loop {
        let page = extents::page(file, at, length)?;
        for extent in &page.extents {
            feed(at, extent.start, false)?;
            feed(extent.start, extent.end(), true)?;
            at = extent.end();
        }
        if page.next.is_none() {
            break;
        }
    }
    feed(at, length, false)?;
    if file.metadata()?.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    finish(hasher)
}

/// The digest that `hasher` has come to.
fn finish(hasher: Sha256) -> io::Result<Digest> {
    hex(&hasher.finalize()).parse().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn holes_count_as_zeros_wherever_they_are() {
        for (length, at) in [
            (0, 0),
            (1, 0),
            (5 * 1024 * 1024 + 3, 2_000_001),
            (3_000_000, 0),
            (3_000_000, 2_999_990),
        ] {
            let file = tempfile::tempfile().unwrap();
            let mut whole = vec![0_u8; length];
            let end = (at + 10).min(length);
            whole[at..end].fill(9);
            file.set_len(length as u64).unwrap();
            file.write_all_at(&whole[at..end], at as u64).unwrap();
            let found = digest(&file, length as u64, &Hashing::default()).unwrap();
            assert_eq!(found, Digest::of(&whole), "{length} {at}");
        }
    }

    #[test]
    fn a_file_that_is_too_short_or_a_stop_ends_it() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abc").unwrap();
        let error = digest(&file, 10, &Hashing::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let hashing = Hashing::default();
        hashing.stop.store(true, Ordering::Relaxed);
        assert_eq!(
            digest(&file, 3, &hashing).unwrap_err().kind(),
            io::ErrorKind::Interrupted
        );
    }
}
