//! Is a raw file a disk?

use serde::{Deserialize, Serialize};

use super::{Detail, Error, Inspection, MAX_VIRTUAL_SIZE, field};
use crate::Format;

/// How a raw disk is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// A boot sector with its signature 0x55AA: an MBR partition table, or one FAT or NTFS file system.
    Mbr,
    /// A GUID partition table (UEFI specification, section 5.3).
    Gpt,
    /// An ISO 9660 file system (ECMA-119), hybrid or not.
    Iso9660,
    /// Nothing that we know; the user said that it is a raw disk.
    Unpartitioned,
}

/// Where ISO 9660 keeps its primary volume descriptor.
const ISO_DESCRIPTOR: usize = 32 * 1024;

pub(super) fn inspect(head: &[u8], len: u64, claimed: bool) -> Result<Inspection, Error> {
    if len < 512 {
        return Err(Error::Truncated(format!("{len} bytes are less than one sector")));
    }
    if len > MAX_VIRTUAL_SIZE {
        return Err(Error::Damaged(format!(
            "a disk of {len} bytes is larger than any that can be run"
        )));
    }
    let layout = match layout(head, len)? {
        Some(layout) => layout,
        None if claimed => Layout::Unpartitioned,
        None => return Err(Error::Unrecognised),
    };
    // QEMU rounds a raw file up to whole sectors.
    Ok(Inspection {
        format: Format::Raw,
        virtual_size: len.next_multiple_of(512),
        size: len,
        detail: Detail::Raw { layout },
    })
}

fn layout(head: &[u8], len: u64) -> Result<Option<Layout>, Error> {
    for sector in [512_usize, 4096] {
        if head.get(sector..).is_some_and(|rest| rest.starts_with(b"EFI PART")) {
            // Linux too refuses a table whose last usable block lies behind the end of the disk.
            let last_usable = field(head, sector + 48).map_or(0, u64::from_le_bytes);
            let blocks = len / sector as u64;
            return if last_usable < blocks {
                Ok(Some(Layout::Gpt))
            } else {
                Err(Error::Truncated(format!(
                    "its partition table covers {last_usable} blocks, the file has {blocks}"
                )))
            };
        }
    }
    // An installer's ISO often has a boot sector as well; what it is for is in the ISO.
    if head
        .get(ISO_DESCRIPTOR..)
        .is_some_and(|rest| rest.starts_with(b"\x01CD001"))
    {
        let blocks = field(head, ISO_DESCRIPTOR + 80).map_or(0, u32::from_le_bytes);
        let block_size = field(head, ISO_DESCRIPTOR + 128).map_or(0, u16::from_le_bytes);
        let volume = u64::from(blocks) * u64::from(block_size);
        return if volume <= len {
            Ok(Some(Layout::Iso9660))
        } else {
            Err(Error::Truncated(format!(
                "its ISO 9660 volume has {volume} bytes, the file has {len}"
            )))
        };
    }
    Ok((head.get(510..512) == Some(&[0x55, 0xaa])).then_some(Layout::Mbr))
}
