//! The formats that a disk image is mistaken for, by their first or last bytes.

/// Something that we know and that is not an image we can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Foreign {
    /// VMware's disk, sparse, COW or a text descriptor.
    Vmdk,
    /// Microsoft's older disk, also called VPC; fixed or dynamic.
    Vhd,
    /// Microsoft's newer disk.
    Vhdx,
    /// VirtualBox's disk.
    Vdi,
    /// QEMU's enhanced disk, abandoned in 2012.
    Qed,
    /// qcow version 1.
    Qcow1,
    /// Parallels' disk.
    Parallels,
    /// Apple's disk image.
    Dmg,
    /// A LUKS container.
    Luks,
    /// gzip.
    Gzip,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
    /// bzip2.
    Bzip2,
    /// LZ4 frame.
    Lz4,
    /// ZIP.
    Zip,
    /// 7-Zip.
    SevenZip,
    /// tar, and so OVA too.
    Tar,
    /// A web page: most often an error page or a login form where the image should be.
    Html,
    /// XML, such as the error of an S3 store or an OVF descriptor.
    Xml,
    /// JSON, such as an API's error.
    Json,
    /// Other text, such as a Git LFS pointer or a checksum file.
    Text,
}

impl Foreign {
    /// What it is, with an article.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vmdk => "a VMDK disk (VMware)",
            Self::Vhd => "a VHD disk (Microsoft)",
            Self::Vhdx => "a VHDX disk (Microsoft)",
            Self::Vdi => "a VDI disk (VirtualBox)",
            Self::Qed => "a QED disk",
            Self::Qcow1 => "a qcow disk of version 1",
            Self::Parallels => "a Parallels disk",
            Self::Dmg => "an Apple disk image (DMG)",
            Self::Luks => "an encrypted LUKS container",
            Self::Gzip => "compressed with gzip",
            Self::Xz => "compressed with xz",
            Self::Zstd => "compressed with zstd",
            Self::Bzip2 => "compressed with bzip2",
            Self::Lz4 => "compressed with LZ4",
            Self::Zip => "a ZIP archive",
            Self::SevenZip => "a 7-Zip archive",
            Self::Tar => "a tar archive (or an OVA)",
            Self::Html => "an HTML page",
            Self::Xml => "an XML document",
            Self::Json => "a JSON document",
            Self::Text => "a text file",
        }
    }

    /// What the user can do about it.
    pub const fn cure(self) -> &'static str {
        match self {
            Self::Vmdk => "convert it first: qemu-img convert -f vmdk -O qcow2 IN OUT",
            Self::Vhd => "convert it first: qemu-img convert -f vpc -O qcow2 IN OUT",
            Self::Vhdx => "convert it first: qemu-img convert -f vhdx -O qcow2 IN OUT",
            Self::Vdi => "convert it first: qemu-img convert -f vdi -O qcow2 IN OUT",
            Self::Qed => "convert it first: qemu-img convert -f qed -O qcow2 IN OUT",
            Self::Qcow1 => "convert it first: qemu-img convert -f qcow -O qcow2 IN OUT",
            Self::Parallels => "convert it first: qemu-img convert -f parallels -O qcow2 IN OUT",
            Self::Dmg => "convert it first: qemu-img convert -f dmg -O qcow2 IN OUT",
            Self::Luks => "decrypt it first: an image must start without a passphrase",
            Self::Gzip => "decompress it first: gunzip",
            Self::Xz => "decompress it first: unxz",
            Self::Zstd => "decompress it first: unzstd",
            Self::Bzip2 => "decompress it first: bunzip2",
            Self::Lz4 => "decompress it first: unlz4",
            Self::Zip => "unpack it first: unzip, and use the disk inside",
            Self::SevenZip => "unpack it first: 7z x, and use the disk inside",
            Self::Tar => "unpack it first: tar -xf, and use the disk inside, converted to qcow2 if it is a VMDK",
            Self::Html | Self::Xml | Self::Json | Self::Text => {
                "check the URL: it should lead to the disk itself, without a login, a landing page or an error"
            }
        }
    }
}

/// What the first bytes of a file say, if they are one of the formats above.
pub(super) fn recognise(head: &[u8]) -> Option<Foreign> {
    const AT_THE_START: &[(&[u8], Foreign)] = &[
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
        (b"\x1f\x8b", Foreign::Gzip),
        (b"\xfd7zXZ\0", Foreign::Xz),
        (b"\x28\xb5\x2f\xfd", Foreign::Zstd),
        (b"BZh", Foreign::Bzip2),
        (b"\x04\x22\x4d\x18", Foreign::Lz4),
        (b"PK\x03\x04", Foreign::Zip),
        (b"PK\x05\x06", Foreign::Zip),
        (b"7z\xbc\xaf\x27\x1c", Foreign::SevenZip),
    ];
    // VirtualBox's signature comes after 64 bytes of free text; tar's "ustar" ends the first header's name fields.
    const INSIDE: &[(usize, &[u8], Foreign)] =
        &[(0x40, b"\x7f\x10\xda\xbe", Foreign::Vdi), (257, b"ustar", Foreign::Tar)];

    AT_THE_START
        .iter()
        .find(|(magic, _)| head.starts_with(magic))
        .map(|(_, foreign)| *foreign)
        .or_else(|| {
            INSIDE
                .iter()
                .find(|(offset, magic, _)| head.get(*offset..).is_some_and(|rest| rest.starts_with(magic)))
                .map(|(_, _, foreign)| *foreign)
        })
        .or_else(|| recognise_text(head))
}

/// What the last 512 bytes say. A fixed VHD is a raw disk with a footer, and a DMG has only a trailer.
pub(super) fn recognise_tail(tail: &[u8]) -> Option<Foreign> {
    // Virtual PC before 2004 wrote footers of 511 bytes.
    let footer = [0, 1]
        .iter()
        .any(|&offset| tail.get(offset..).is_some_and(|rest| rest.starts_with(b"conectix")));
    if footer {
        Some(Foreign::Vhd)
    } else if tail.starts_with(b"koly\0\0\0\x04") {
        Some(Foreign::Dmg)
    } else {
        None
    }
}

/// Text is UTF-8 without control characters. A boot sector never is: its last byte, 0xAA, continues a character that
/// 0x55 can't start.
fn recognise_text(head: &[u8]) -> Option<Foreign> {
    let sample = &head[..head.len().min(4096)];
    let text = match str::from_utf8(sample) {
        Ok(text) => text,
        // A character may be cut in two by the end of the sample, and only there.
        Err(error) if error.error_len().is_none() => str::from_utf8(&sample[..error.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    let is_text = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\x0c');
    if text.is_empty() || !text.chars().all(is_text) {
        return None;
    }
    let start = text.trim_start_matches('\u{feff}').trim_start();
    let starts_with = |tag: &str| {
        start
            .get(..tag.len())
            .is_some_and(|found| found.eq_ignore_ascii_case(tag))
    };
    Some(
        if ["<!doctype html", "<html", "<head", "<body", "<!--"]
            .into_iter()
            .any(starts_with)
        {
            Foreign::Html
        } else if start.starts_with('<') {
            Foreign::Xml
        } else if start.starts_with(['{', '[']) {
            Foreign::Json
        } else {
            Foreign::Text
        },
    )
}
