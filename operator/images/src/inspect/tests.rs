use proptest::prelude::*;

use super::*;

/// A qcow2 header of version 3 with one cluster each for the header, the refcount table, and the L1 table.
fn qcow2() -> Vec<u8> {
    let mut image = vec![0; 3 * 65_536 + 8];
    image[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    put(&mut image, 20, 16_u32);
    put(&mut image, 24, 64_u64 << 20);
    put(&mut image, 36, 1_u32);
    put(&mut image, 40, 0x3_0000_u64);
    put(&mut image, 48, 0x1_0000_u64);
    put(&mut image, 56, 1_u32);
    put(&mut image, 96, 4_u32);
    put(&mut image, 100, 112_u32);
    image
}

trait Number {
    fn bytes(self) -> Vec<u8>;
}

impl Number for u32 {
    fn bytes(self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }
}

impl Number for u64 {
    fn bytes(self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }
}

fn put(image: &mut [u8], offset: usize, number: impl Number) {
    let bytes = number.bytes();
    image[offset..offset + bytes.len()].copy_from_slice(&bytes);
}

fn with(offset: usize, number: impl Number) -> Error {
    let mut image = qcow2();
    put(&mut image, offset, number);
    inspect_bytes(&image, None).unwrap_err()
}

fn foreign(bytes: &[u8]) -> Option<Foreign> {
    match inspect_bytes(bytes, Some(Format::Raw)) {
        Err(Error::NotADisk(foreign)) => Some(foreign),
        _ => None,
    }
}

/// A raw disk with a boot sector.
fn mbr() -> Vec<u8> {
    let mut disk = vec![0; 1 << 20];
    disk[0] = 0xeb;
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

#[test]
fn a_plain_qcow2_is_accepted() {
    let found = inspect_bytes(&qcow2(), Some(Format::Qcow2)).unwrap();
    assert_eq!(found.format, Format::Qcow2);
    assert_eq!(found.virtual_size, 64 << 20);
    assert_eq!(
        found.detail,
        Detail::Qcow2 {
            version: 3,
            cluster_size: 65_536,
            snapshots: 0
        }
    );
}

#[test]
fn a_qcow2_that_points_to_another_file_is_refused() {
    assert!(matches!(with(8, 0x210_u64), Error::HasBackingFile));
    assert!(matches!(with(16, 8_u32), Error::HasBackingFile));
    assert!(matches!(with(72, 4_u64), Error::HasDataFile));
    // A data file's name without the feature bit: QEMU ignores it today.
    assert!(matches!(with(112, 0x4441_5441_u32), Error::HasDataFile));
}

#[test]
fn a_qcow2_that_needs_what_we_do_not_know_is_refused() {
    assert!(matches!(with(32, 2_u32), Error::Encrypted));
    assert!(matches!(with(112, 0x0537_be77_u32), Error::Encrypted));
    assert!(matches!(with(72, 1_u64 << 5), Error::Unsupported(_)));
    assert!(matches!(with(72, 1_u64 << 63), Error::Unsupported(_)));
    assert!(matches!(with(4, 4_u32), Error::Unsupported(_)));
    assert!(matches!(with(4, 0_u32), Error::Unsupported(_)));
    assert!(matches!(with(72, 2_u64), Error::Damaged(_)), "marked as corrupt");
}

#[test]
fn a_qcow2_header_that_contradicts_itself_is_refused() {
    for (what, error) in [
        ("cluster bits too few", with(20, 8_u32)),
        ("cluster bits too many", with(20, 22_u32)),
        ("cluster bits absurd", with(20, u32::MAX)),
        ("no virtual size", with(24, 0_u64)),
        ("absurd virtual size", with(24, u64::MAX)),
        ("L1 too short for the disk", with(24, 1_u64 << 40)),
        ("L1 absurdly long", with(36, u32::MAX)),
        ("L1 in the header", with(40, 0_u64)),
        ("L1 not on a cluster", with(40, 0x3_0008_u64)),
        ("L1 where sums overflow", with(40, u64::MAX - 0xffff)),
        ("L1 behind the end", with(40, 0x10_0000_u64)),
        ("refcount table behind the end", with(48, 0x10_0000_u64)),
        ("refcount table absurdly long", with(56, u32::MAX)),
        ("no refcount table", with(56, 0_u32)),
        ("refcounts too wide", with(96, 7_u32)),
        ("too many snapshots", with(60, u32::MAX)),
        ("snapshots behind the end", with(60, 1_u32)),
        ("header too short", with(100, 96_u32)),
        ("header longer than its cluster", with(100, 65_544_u32)),
        ("header not of whole words", with(100, 113_u32)),
        ("compression type without its bit", with(104, 1_u32 << 24)),
        ("compression bit without a type", with(72, 8_u64)),
        ("unknown compression type", with(104, 2_u32 << 24)),
        ("extension longer than its cluster", {
            let mut image = qcow2();
            put(&mut image, 112, 0x1234_5678_u32);
            put(&mut image, 116, u32::MAX);
            inspect_bytes(&image, None).unwrap_err()
        }),
        ("L2 table not on a cluster", with(0x3_0000, 0x2_0200_u64)),
        ("L2 table behind the end", with(0x3_0000, 0x10_0000_u64)),
    ] {
        assert!(
            matches!(error, Error::Damaged(_) | Error::Truncated(_) | Error::Unsupported(_)),
            "{what}: {error}"
        );
    }
}

#[test]
fn clusters_behind_the_end_of_the_file_show_that_it_is_cut_off() {
    let mut image = qcow2();
    put(&mut image, 0x3_0000, 0x2_0000_u64);
    assert!(inspect_bytes(&image, None).is_ok());
    for entry in [0x4_0000_u64, 1 << 62 | 0x4_0000] {
        put(&mut image, 0x2_0010, entry);
        assert!(
            matches!(inspect_bytes(&image, None), Err(Error::Truncated(_))),
            "{entry:#x}"
        );
    }
}

#[test]
fn a_wrong_claim_is_an_error_both_ways() {
    assert!(matches!(
        inspect_bytes(&qcow2(), Some(Format::Raw)),
        Err(Error::FormatMismatch {
            claimed: Format::Raw,
            found: "qcow2"
        })
    ));
    assert!(matches!(
        inspect_bytes(&mbr(), Some(Format::Qcow2)),
        Err(Error::FormatMismatch {
            claimed: Format::Qcow2,
            ..
        })
    ));
}

#[test]
fn a_raw_disk_is_recognised_by_its_partition_table() {
    let mut disk = mbr();
    let layout = |disk: &[u8]| match inspect_bytes(disk, None) {
        Ok(Inspection {
            format: Format::Raw,
            virtual_size,
            detail: Detail::Raw { layout },
            ..
        }) => {
            assert_eq!(virtual_size, disk.len() as u64);
            Some(layout)
        }
        _ => None,
    };
    assert_eq!(layout(&disk), Some(Layout::Mbr));
    disk[0x8000..0x8006].copy_from_slice(b"\x01CD001");
    disk[0x8000 + 80..0x8000 + 84].copy_from_slice(&512_u32.to_le_bytes());
    disk[0x8000 + 128..0x8000 + 130].copy_from_slice(&2048_u16.to_le_bytes());
    assert_eq!(layout(&disk), Some(Layout::Iso9660));
    disk[0x8000 + 80..0x8000 + 84].copy_from_slice(&513_u32.to_le_bytes());
    assert!(matches!(inspect_bytes(&disk, None), Err(Error::Truncated(_))));
    disk[512..520].copy_from_slice(b"EFI PART");
    disk[560..568].copy_from_slice(&2047_u64.to_le_bytes());
    assert_eq!(layout(&disk), Some(Layout::Gpt));
    disk[560..568].copy_from_slice(&2048_u64.to_le_bytes());
    assert!(matches!(inspect_bytes(&disk, None), Err(Error::Truncated(_))));
}

#[test]
fn a_raw_disk_without_a_partition_table_needs_the_users_word() {
    let disk = vec![0; 4096];
    assert!(matches!(inspect_bytes(&disk, None), Err(Error::Unrecognised)));
    let found = inspect_bytes(&disk, Some(Format::Raw)).unwrap();
    assert_eq!(
        found.detail,
        Detail::Raw {
            layout: Layout::Unpartitioned
        }
    );
}

#[test]
fn a_raw_disk_is_rounded_up_to_whole_sectors_as_qemu_does() {
    let mut disk = mbr();
    disk.push(0);
    assert_eq!(inspect_bytes(&disk, None).unwrap().virtual_size, (1 << 20) + 512);
}

#[test]
fn empty_and_tiny_files_are_refused() {
    assert!(matches!(inspect_bytes(&[], Some(Format::Raw)), Err(Error::Empty)));
    assert!(matches!(
        inspect_bytes(&[0; 100], Some(Format::Raw)),
        Err(Error::Truncated(_))
    ));
    assert!(matches!(inspect_bytes(&qcow2()[..50], None), Err(Error::Truncated(_))));
}

#[test]
fn text_is_named_for_what_it_is() {
    assert_eq!(foreign(b"\n <!DOCTYPE html><title>404"), Some(Foreign::Html));
    assert_eq!(foreign("\u{feff}<HTML lang=de>Ä".as_bytes()), Some(Foreign::Html));
    assert_eq!(foreign(b"<?xml version=\"1.0\"?><Error/>"), Some(Foreign::Xml));
    assert_eq!(foreign(b"{\"error\": \"no\"}"), Some(Foreign::Json));
    assert_eq!(
        foreign(b"version https://git-lfs.github.com/spec/v1\n"),
        Some(Foreign::Text)
    );
    // A two-byte character across the end of the sample.
    let long = format!("a{}", "ü".repeat(4096));
    assert_eq!(foreign(long.as_bytes()), Some(Foreign::Text));
}

#[test]
fn a_known_format_is_refused_even_when_it_is_claimed_to_be_raw_and_has_a_boot_sector() {
    let signatures: [(&[u8], Foreign); 20] = [
        (b"KDMV", Foreign::Vmdk),
        (b"COWD", Foreign::Vmdk),
        (b"# Disk DescriptorFile", Foreign::Vmdk),
        (b"conectix", Foreign::Vhd),
        (b"vhdxfile", Foreign::Vhdx),
        (b"QED\0", Foreign::Qed),
        (b"QFI\xfb\0\0\0\x01", Foreign::Qcow1),
        (b"WithoutFreeSpace", Foreign::Parallels),
        (b"WithouFreSpacExt", Foreign::Parallels),
        (b"LUKS\xba\xbe", Foreign::Luks),
        (b"\x1f\x8b\x08", Foreign::Gzip),
        (b"\xfd7zXZ\0", Foreign::Xz),
        (b"\x28\xb5\x2f\xfd", Foreign::Zstd),
        (b"BZh9", Foreign::Bzip2),
        (b"\x04\x22\x4d\x18", Foreign::Lz4),
        (b"PK\x03\x04", Foreign::Zip),
        (b"PK\x05\x06", Foreign::Zip),
        (b"7z\xbc\xaf\x27\x1c", Foreign::SevenZip),
        (b"<<< Oracle VM VirtualBox Disk Image >>>\n", Foreign::Vdi),
        (b"etc/passwd", Foreign::Tar),
    ];
    for (magic, expected) in signatures {
        let mut disk = mbr();
        disk[..magic.len()].copy_from_slice(magic);
        match expected {
            Foreign::Vdi => disk[0x40..0x44].copy_from_slice(b"\x7f\x10\xda\xbe"),
            Foreign::Tar => disk[257..262].copy_from_slice(b"ustar"),
            _ => {}
        }
        assert_eq!(foreign(&disk), Some(expected));
        assert_eq!(refuse_early(&disk[..4096]), Some(expected));
    }
}

#[test]
fn a_fixed_vhd_is_known_by_its_footer() {
    let mut disk = mbr();
    let end = disk.len();
    disk[end - 512..end - 504].copy_from_slice(b"conectix");
    assert_eq!(foreign(&disk), Some(Foreign::Vhd));
    let mut disk = mbr();
    disk[end - 511..end - 503].copy_from_slice(b"conectix");
    assert_eq!(foreign(&disk), Some(Foreign::Vhd));
    let mut disk = mbr();
    disk[end - 512..end - 504].copy_from_slice(b"koly\0\0\0\x04");
    assert_eq!(foreign(&disk), Some(Foreign::Dmg));
}

#[test]
fn an_error_says_what_to_do() {
    let error = inspect_bytes(b"\x1f\x8b\x08aaaaa", None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the image is compressed with gzip; decompress it first: gunzip"
    );
}

/// A reader that says how far it was read, and fails where the test says.
struct Watched<'a> {
    inner: Cursor<&'a [u8]>,
    read: u64,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read += count as u64;
        Ok(count)
    }
}

impl Seek for Watched<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[test]
fn l1_entries_that_all_name_one_l2_table_do_not_make_us_read_for_ever() {
    // The largest L1 table, each entry naming the same L2 table.
    let mut image = qcow2();
    let entries: usize = (32 << 20) / 8;
    put(&mut image, 36, u32::try_from(entries).unwrap());
    image.resize(0x3_0000 + entries * 8, 0);
    for entry in 0..entries {
        put(&mut image, 0x3_0000 + entry * 8, 0x2_0000_u64);
    }
    let mut reader = Watched {
        inner: Cursor::new(&image),
        read: 0,
    };
    inspect(&mut reader, None).unwrap();
    assert!(reader.read < 100 << 20, "{} bytes read", reader.read);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..2048)) {
        fuzz(&data);
    }

    #[test]
    fn a_qcow2_with_any_header_bytes_never_panics(
        changes in proptest::collection::vec((0_usize..160, any::<u8>()), 1..12),
        length in 0_usize..(3 * 65_536 + 8),
        cut in any::<bool>(),
    ) {
        let mut image = qcow2();
        for (offset, byte) in changes {
            image[offset] = byte;
        }
        if cut {
            image.truncate(length);
        }
        fuzz(&image);
    }

    #[test]
    fn a_qcow2_with_any_table_entries_never_panics(l1 in any::<u64>(), l2 in any::<u64>(), bits in 9_u32..=21) {
        let mut image = qcow2();
        put(&mut image, 20, bits);
        put(&mut image, 0x3_0000, l1);
        put(&mut image, 0x2_0000, l2);
        fuzz(&image);
        put(&mut image, 0x3_0000, 0x2_0000_u64);
        fuzz(&image);
    }

    #[test]
    fn a_qcow2_with_a_backing_file_is_never_accepted(
        offset in 1_u64..,
        changes in proptest::collection::vec((16_usize..160, any::<u8>()), 0..8),
    ) {
        let mut image = qcow2();
        for (at, byte) in changes {
            image[at] = byte;
        }
        put(&mut image, 8, offset);
        prop_assert!(inspect_bytes(&image, None).is_err());
    }
}
