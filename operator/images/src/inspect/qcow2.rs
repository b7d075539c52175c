//! The qcow2 header and tables, as far as safety needs them.
//!
//! Field by field after QEMU's `docs/interop/qcow2.rst`; the limits are those of QEMU's `block/qcow2.h`, where it has
//! some.

use std::io::{Read, Seek};

use super::{Detail, Error, Input, Inspection, MAX_VIRTUAL_SIZE, be32, be64};
use crate::Format;

const MAGIC: [u8; 4] = *b"QFI\xfb";

/// Bytes of a version 2 header; also the first part of a version 3 header.
const V2_HEADER: u64 = 72;
/// Bytes of the smallest version 3 header.
const V3_HEADER: u64 = 104;

// Incompatible feature bits: whoever doesn't know one must refuse the image.
const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;
const KNOWN: u64 = DIRTY | CORRUPT | DATA_FILE | COMPRESSION_TYPE | EXTENDED_L2;

// Header extensions.
const EXTENSION_END: u32 = 0;
const EXTENSION_DATA_FILE: u32 = 0x4441_5441;
const EXTENSION_ENCRYPTION: u32 = 0x0537_be77;
const MAX_EXTENSIONS: usize = 64;

/// QEMU's limit for the L1 table: 32 MiB.
const MAX_L1_BYTES: u64 = 32 << 20;
/// QEMU's limit for the refcount table: 8 MiB.
const MAX_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;
/// QEMU's limit.
const MAX_SNAPSHOTS: u32 = 65_536;
/// How much of the L2 tables is checked: enough for a disk of 512 GiB with the usual clusters.
const MAX_L2_BYTES: u64 = 64 << 20;
/// Tables are read in pieces of this size.
const PIECE: usize = 64 * 1024;

/// Bits 9 to 55 of a table entry: where the cluster is.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Bit 62 of an L2 entry.
const COMPRESSED: u64 = 1 << 62;

pub(super) fn has_magic(head: &[u8]) -> bool {
    // Version 1 is another format with the same magic.
    head.starts_with(&MAGIC) && be32(head, 4) != 1
}

struct Header {
    version: u32,
    cluster_bits: u32,
    virtual_size: u64,
    l1_entries: u64,
    l1_offset: u64,
    snapshots: u32,
    /// Of the header, in bytes.
    length: u64,
    extended_l2: bool,
}

pub(super) fn inspect<R: Read + Seek>(input: &mut Input<'_, R>) -> Result<Inspection, Error> {
    let header = header(input)?;
    extensions(input, &header)?;
    tables(input, &header)?;
    Ok(Inspection {
        format: Format::Qcow2,
        virtual_size: header.virtual_size.next_multiple_of(512),
        size: input.len,
        detail: Detail::Qcow2 {
            version: header.version,
            cluster_size: 1 << header.cluster_bits,
            snapshots: header.snapshots,
        },
    })
}

/// Reads the header and refuses what it alone can show. What points out of the file comes first: it is the attack.
fn header<R: Read + Seek>(input: &mut Input<'_, R>) -> Result<Header, Error> {
    let mut bytes = [0; 112];
    let found = input.read_up_to(0, &mut bytes)?;
    let version = be32(&bytes, 4);
    let needed = match version {
        2 => V2_HEADER,
        3 => V3_HEADER,
        _ => return Err(Error::Unsupported(format!("version {version}"))),
    };
    if (found as u64) < needed {
        return Err(Error::Truncated("the file ends inside the qcow2 header".to_owned()));
    }

    // Version 2 has no feature bits.
    let features = if version == 3 { be64(&bytes, 72) } else { 0 };
    if be64(&bytes, 8) != 0 || be32(&bytes, 16) != 0 {
        return Err(Error::HasBackingFile);
    }
    if features & DATA_FILE != 0 {
        return Err(Error::HasDataFile);
    }
    if be32(&bytes, 32) != 0 {
        return Err(Error::Encrypted);
    }
    if features & !KNOWN != 0 {
        return Err(Error::Unsupported(format!(
            "unknown incompatible features ({:#x})",
            features & !KNOWN
        )));
    }
    if features & CORRUPT != 0 {
        return Err(Error::Damaged("it is marked as corrupt".to_owned()));
    }

    let cluster_bits = be32(&bytes, 20);
    if !(9..=21).contains(&cluster_bits) {
        return Err(Error::Damaged(format!("{cluster_bits} cluster bits, expected 9 to 21")));
    }
    let extended_l2 = features & EXTENDED_L2 != 0;
    if extended_l2 && cluster_bits < 14 {
        return Err(Error::Damaged(
            "extended L2 entries need clusters of 16 KiB or more".to_owned(),
        ));
    }
    let virtual_size = be64(&bytes, 24);
    if virtual_size == 0 {
        return Err(Error::Damaged("its disk has no bytes".to_owned()));
    }
    if virtual_size > MAX_VIRTUAL_SIZE {
        return Err(Error::Damaged(format!(
            "a disk of {virtual_size} bytes is larger than any that can be run"
        )));
    }

    let cluster_size = 1_u64 << cluster_bits;
    let header_length = if version == 3 {
        u64::from(be32(&bytes, 100))
    } else {
        V2_HEADER
    };
    if header_length < needed || header_length > cluster_size || !header_length.is_multiple_of(8) {
        return Err(Error::Damaged(format!("a header of {header_length} bytes")));
    }
    // The byte is there only when the header reaches it; without the feature bit it must be zlib's zero.
    let compression = if header_length > V3_HEADER { bytes[104] } else { 0 };
    let has_compression_type = features & COMPRESSION_TYPE != 0;
    if compression > 1 {
        return Err(Error::Unsupported(format!("compression type {compression}")));
    }
    if has_compression_type != (compression != 0) {
        return Err(Error::Damaged(
            "its compression type and its feature bit contradict each other".to_owned(),
        ));
    }
    if version == 3 && be32(&bytes, 96) > 6 {
        return Err(Error::Damaged(format!("refcounts of 2^{} bits", be32(&bytes, 96))));
    }

    let l1_entries = u64::from(be32(&bytes, 36));
    let l1_offset = be64(&bytes, 40);
    table(
        input.len,
        cluster_size,
        "L1 table",
        l1_offset,
        l1_entries * 8,
        MAX_L1_BYTES,
    )?;
    let refcount_table_size = u64::from(be32(&bytes, 56)) * cluster_size;
    let refcount_table = be64(&bytes, 48);
    if refcount_table_size == 0 {
        return Err(Error::Damaged("it has no refcount table".to_owned()));
    }
    // The last cluster of a file need not be whole.
    let whole = input.len.div_ceil(cluster_size).saturating_mul(cluster_size);
    table(
        whole,
        cluster_size,
        "refcount table",
        refcount_table,
        refcount_table_size,
        MAX_REFCOUNT_TABLE_BYTES,
    )?;

    let entry_size: u64 = if extended_l2 { 16 } else { 8 };
    let covered_by_l1_entry = cluster_size / entry_size * cluster_size;
    let needed_entries = virtual_size.div_ceil(covered_by_l1_entry);
    if l1_entries < needed_entries {
        return Err(Error::Damaged(format!(
            "its L1 table has {l1_entries} entries, the disk needs {needed_entries}"
        )));
    }

    let snapshots = be32(&bytes, 60);
    if snapshots > MAX_SNAPSHOTS {
        return Err(Error::Damaged(format!("{snapshots} internal snapshots")));
    }
    if snapshots > 0 {
        // The smallest record of a snapshot has 40 bytes.
        let size = u64::from(snapshots) * 40;
        table(
            input.len,
            cluster_size,
            "snapshot table",
            be64(&bytes, 64),
            size,
            u64::MAX,
        )?;
    }
    Ok(Header {
        version,
        cluster_bits,
        virtual_size,
        l1_entries,
        l1_offset,
        snapshots,
        length: header_length,
        extended_l2,
    })
}

/// A table must start on a cluster, behind the header, be no larger than QEMU allows, and end inside the file.
fn table(len: u64, cluster_size: u64, what: &str, offset: u64, size: u64, max: u64) -> Result<(), Error> {
    if size > max {
        return Err(Error::Damaged(format!("its {what} has {size} bytes")));
    }
    if offset < cluster_size || !offset.is_multiple_of(cluster_size) {
        return Err(Error::Damaged(format!("its {what} is at {offset}, not on a cluster")));
    }
    if offset.checked_add(size).is_none_or(|end| end > len) {
        return Err(Error::Truncated(format!("its {what} lies behind the end of the file")));
    }
    Ok(())
}

/// Walks the header extensions, which lie between the header and the end of the first cluster.
fn extensions<R: Read + Seek>(input: &mut Input<'_, R>, header: &Header) -> Result<(), Error> {
    let end = 1_u64 << header.cluster_bits;
    let mut offset = header.length;
    for _ in 0..MAX_EXTENSIONS {
        if offset + 8 > end {
            return Ok(());
        }
        let mut bytes = [0; 8];
        input.read_exactly(offset, &mut bytes, "qcow2 header extensions")?;
        match be32(&bytes, 0) {
            EXTENSION_END => return Ok(()),
            EXTENSION_DATA_FILE => return Err(Error::HasDataFile),
            EXTENSION_ENCRYPTION => return Err(Error::Encrypted),
            _ => {}
        }
        offset += 8 + u64::from(be32(&bytes, 4)).next_multiple_of(8);
        if offset > end {
            return Err(Error::Damaged(
                "a header extension is longer than its cluster".to_owned(),
            ));
        }
    }
    Err(Error::Damaged(format!("more than {MAX_EXTENSIONS} header extensions")))
}

/// Walks the L1 table and, within a bound, the L2 tables: every cluster must start inside the file. This is how a
/// download that was cut off shows when nobody gave a checksum.
fn tables<R: Read + Seek>(input: &mut Input<'_, R>, header: &Header) -> Result<(), Error> {
    let cluster_size = 1_u64 << header.cluster_bits;
    let mut budget = MAX_L2_BYTES / cluster_size;
    let mut l2_tables = Vec::new();
    entries(
        input,
        header.l1_offset,
        header.l1_entries * 8,
        "L1 table",
        8,
        |entry, len| {
            let offset = entry & OFFSET;
            if offset != 0 && budget > 0 {
                budget -= 1;
                l2_tables.push(offset);
            }
            inside(offset, cluster_size, len)
        },
    )?;
    let entry_size = if header.extended_l2 { 16 } else { 8 };
    let compressed_offset = (1_u64 << (70 - header.cluster_bits)) - 1;
    for offset in l2_tables {
        entries(input, offset, cluster_size, "L2 table", entry_size, |entry, len| {
            if entry & COMPRESSED != 0 {
                inside(entry & compressed_offset, 1, len)
            } else {
                inside(entry & OFFSET, cluster_size, len)
            }
        })?;
    }
    Ok(())
}

/// Calls `check` with the first eight bytes of each entry of a table and the length of the file.
fn entries<R: Read + Seek>(
    input: &mut Input<'_, R>,
    offset: u64,
    size: u64,
    what: &str,
    entry_size: usize,
    mut check: impl FnMut(u64, u64) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut piece = vec![0; PIECE];
    let mut done = 0;
    while done < size {
        let length = usize::try_from(size - done).map_or(PIECE, |rest| rest.min(PIECE));
        let piece = &mut piece[..length];
        input.read_exactly(offset.saturating_add(done), piece, what)?;
        for entry in piece.chunks_exact(entry_size) {
            check(be64(entry, 0), input.len)?;
        }
        done += length as u64;
    }
    Ok(())
}

fn inside(offset: u64, alignment: u64, len: u64) -> Result<(), Error> {
    if !offset.is_multiple_of(alignment) {
        return Err(Error::Damaged(format!("a cluster at {offset}, not aligned")));
    }
    if offset >= len {
        return Err(Error::Truncated(
            "clusters of the disk lie behind the end of the file".to_owned(),
        ));
    }
    Ok(())
}
