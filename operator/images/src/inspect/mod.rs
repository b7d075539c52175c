//! What is in a file that somebody calls a disk image?
//!
//! Glance learnt the hard way (OSSA-2024-001, CVE-2024-32498) that an image must be inspected before any tool opens it:
//! a qcow2 header may name another file, and QEMU follows it. So this module reads headers itself, within bounds, and
//! runs nothing.
//!
//! - qcow2, versions 2 and 3: accepted when it stands alone and its tables lie inside the file.
//! - raw: accepted when it is recognisably a disk (MBR, GPT, ISO 9660), or when the user claims `raw`, but never when
//!   the content is one of the known other formats.
//! - Everything else is named and refused, with what to do about it.

mod qcow2;
mod raw;
mod signature;

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use serde::{Deserialize, Serialize};

pub use raw::Layout;
pub use signature::Foreign;

use crate::Format;

/// How much of the start of a file is looked at for signatures; the last one, ISO 9660's, ends at 34,816.
const HEAD: usize = 36 * 1024;

/// The largest virtual disk that is accepted: 1 PiB, far above any real image and far below where sums overflow.
pub const MAX_VIRTUAL_SIZE: u64 = 1 << 50;

/// What a good image is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// The format to tell QEMU; it must never guess.
    pub format: Format,
    /// Size of the disk that the guest sees, in bytes, a multiple of 512.
    pub virtual_size: u64,
    /// Length of the file in bytes.
    pub size: u64,
    /// What only this format has.
    pub detail: Detail,
}

/// What only one format has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Detail {
    /// From the qcow2 header.
    Qcow2 {
        /// 2 or 3.
        version: u32,
        /// In bytes, a power of two between 512 and 2 MiB.
        cluster_size: u64,
        /// Number of internal snapshots. They are carried along and never used.
        snapshots: u32,
    },
    /// From the first sectors of a raw disk.
    Raw {
        /// How the disk is divided.
        layout: Layout,
    },
}

/// Why a file can't be used as an image. The text is meant for the user who supplied it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read: our trouble, not the image's.
    #[error("reading the image")]
    Read(#[from] io::Error),
    /// No bytes at all.
    #[error("the image is empty")]
    Empty,
    /// The content is something else that we know.
    #[error("the image is {}; {}", .0.name(), .0.cure())]
    NotADisk(Foreign),
    /// Raw by elimination, but nothing says that it is a disk and nobody claimed it.
    #[error(
        "the image is no format that we know and holds no partition table; if it really is a raw disk, say so with \
         the format RAW"
    )]
    Unrecognised,
    /// The user's claim and the content differ.
    #[error("the image is claimed to be {claimed}, but its content is {found}; correct the claim or the image")]
    FormatMismatch {
        /// What the user said.
        claimed: Format,
        /// What it is.
        found: &'static str,
    },
    /// A qcow2 file that names another file to read from.
    #[error(
        "the qcow2 image has a backing file, which is never followed; flatten it first: qemu-img convert -O qcow2 IN OUT"
    )]
    HasBackingFile,
    /// A qcow2 file whose data is in another file.
    #[error(
        "the qcow2 image keeps its data in another file, which is never followed; flatten it first: qemu-img convert -O \
         qcow2 IN OUT"
    )]
    HasDataFile,
    /// An encrypted qcow2 file.
    #[error("the qcow2 image is encrypted; decrypt it first with qemu-img convert")]
    Encrypted,
    /// A valid image that needs something that we or QEMU don't offer.
    #[error("the qcow2 image uses {0}, which is not supported; convert it first: qemu-img convert -O qcow2 IN OUT")]
    Unsupported(String),
    /// The file ends before the image does.
    #[error("the image is cut off: {0}; fetch or upload it again")]
    Truncated(String),
    /// The header contradicts itself.
    #[error("the image is damaged: {0}; check it with qemu-img check, or fetch it again")]
    Damaged(String),
}

impl Error {
    /// Whether the image is at fault, not the disk or the network that it was read from.
    pub fn is_the_images_fault(&self) -> bool {
        !matches!(self, Self::Read(_))
    }
}

/// Inspects the image in `reader`, which may stand anywhere.
///
/// `claim` is the format that the user says it is. Reads at most about 100 MiB, of which all but a few pages only for
/// images with very large tables, and allocates less than 1 MiB.
pub fn inspect<R: Read + Seek>(reader: &mut R, claim: Option<Format>) -> Result<Inspection, Error> {
    let mut input = Input::new(reader)?;
    if input.len == 0 {
        return Err(Error::Empty);
    }
    let mut head = vec![0; HEAD];
    let length = input.read_up_to(0, &mut head)?;
    head.truncate(length);
    let mut tail = vec![0; 512];
    let length = input.read_up_to(input.len.saturating_sub(512), &mut tail)?;
    tail.truncate(length);

    if qcow2::has_magic(&head) {
        if claim == Some(Format::Raw) {
            return Err(Error::FormatMismatch {
                claimed: Format::Raw,
                found: "qcow2",
            });
        }
        return qcow2::inspect(&mut input);
    }
    if let Some(foreign) = signature::recognise(&head).or_else(|| signature::recognise_tail(&tail)) {
        return Err(Error::NotADisk(foreign));
    }
    if claim == Some(Format::Qcow2) {
        return Err(Error::FormatMismatch {
            claimed: Format::Qcow2,
            found: "not qcow2, its first bytes lack the magic",
        });
    }
    raw::inspect(&head, input.len, claim.is_some())
}

/// Inspects an image that is in memory.
pub fn inspect_bytes(bytes: &[u8], claim: Option<Format>) -> Result<Inspection, Error> {
    inspect(&mut Cursor::new(bytes), claim)
}

/// Looks at the first bytes of an image that is still arriving, so that ten gigabytes of the wrong thing need not be
/// fetched to be refused. Finds less than [`inspect`], never more.
pub fn refuse_early(head: &[u8]) -> Option<Foreign> {
    let head = &head[..head.len().min(HEAD)];
    if qcow2::has_magic(head) {
        None
    } else {
        signature::recognise(head)
    }
}

/// Entry for fuzzers: whatever the bytes are, no panic, and a good answer keeps its promises.
///
/// With cargo-fuzz: `fuzz_target!(|data: &[u8]| virga_images::inspect::fuzz(data));`
pub fn fuzz(data: &[u8]) {
    for claim in [None, Some(Format::Qcow2), Some(Format::Raw)] {
        if let Ok(found) = inspect_bytes(data, claim) {
            assert!(
                claim.is_none_or(|claim| claim == found.format),
                "a claim of {claim:?} gave {found:?}"
            );
            assert!(
                found.virtual_size > 0 && found.virtual_size <= MAX_VIRTUAL_SIZE,
                "{found:?}"
            );
            assert_eq!(usize::try_from(found.size).ok(), Some(data.len()), "{found:?}");
        }
    }
    let _ = refuse_early(data);
}

/// A file of known length that is read at offsets.
struct Input<'a, R> {
    reader: &'a mut R,
    len: u64,
}

impl<'a, R: Read + Seek> Input<'a, R> {
    fn new(reader: &'a mut R) -> io::Result<Self> {
        let len = reader.seek(SeekFrom::End(0))?;
        Ok(Self { reader, len })
    }

    /// Fills `buffer` from `offset`, less where the file ends. Returns how much was filled.
    fn read_up_to(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.seek(SeekFrom::Start(offset))?;
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Fills `buffer` from `offset`, or says that the image is cut off inside `what`.
    fn read_exactly(&mut self, offset: u64, buffer: &mut [u8], what: &str) -> Result<(), Error> {
        if self.read_up_to(offset, buffer)? < buffer.len() {
            return Err(Error::Truncated(format!("the file ends inside the {what}")));
        }
        Ok(())
    }
}

/// The number at `offset`, most significant byte first; zero where the bytes end.
fn be32(bytes: &[u8], offset: usize) -> u32 {
    field(bytes, offset).map_or(0, u32::from_be_bytes)
}

/// See [`be32`].
fn be64(bytes: &[u8], offset: usize) -> u64 {
    field(bytes, offset).map_or(0, u64::from_be_bytes)
}

/// The bytes at `offset`, if they are all there.
fn field<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests;
