//! The guest's disk: one FAT partition with the kernel, the initramfs, syslinux for BIOS machines and systemd-boot for
//! UEFI ones. Made by programs that work on plain files (mtools), so neither loop devices nor mounts are needed; the
//! same bytes for the same content.

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{fs, io};

use crate::{command, file};

const STEP_LIMIT: Duration = Duration::from_mins(2);
const SECTOR: u64 = 512;
/// Where the partition begins, in sectors: 1 MiB, as every partitioning tool does.
const FIRST_SECTOR: u64 = 2048;
/// Of the whole disk. What is not kernel and initramfs is free space in which tests may write.
const DISK_BYTES: u64 = 64 << 20;
/// The boot code in a master boot record ends where the disk's signature begins.
const BOOT_CODE_BYTES: usize = 440;
/// The disk's signature and the volume's serial number: fixed, so that they differ in no two builds.
const SERIAL: u32 = 0x5649_5247;
const MBR: &str = "/usr/lib/syslinux/mbr/mbr.bin";

/// What goes on the disk.
#[derive(Debug)]
pub struct Content<'a> {
    /// The kernel.
    pub kernel: &'a Path,
    /// The initramfs, compressed in a way that the kernel knows.
    pub initramfs: &'a [u8],
    /// systemd-boot's program.
    pub uefi_loader: &'a Path,
    /// The kernel's command line.
    pub command_line: &'a str,
}

/// What went wrong with the disk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An outside program failed.
    #[error(transparent)]
    Command(#[from] command::Failed),
    /// A file could not be handled.
    #[error(transparent)]
    File(#[from] file::Error),
    /// syslinux' boot code does not fit.
    #[error("{MBR} has {length} bytes, more than {BOOT_CODE_BYTES}")]
    BootCode {
        /// Its size.
        length: usize,
    },
}

/// Writes the disk to `target` as a compressed qcow2 image. `work` is a folder for what comes before it.
pub fn write(content: &Content<'_>, work: &Path, target: &Path) -> Result<(), Error> {
    let raw = work.join("disk.raw");
    let boot_code = file::read(MBR.as_ref())?;
    let image = fs::File::create(&raw).map_err(file::failed("making", &raw))?;
    image.set_len(DISK_BYTES).map_err(file::failed("sizing", &raw))?;
    drop(image);

    let offset = FIRST_SECTOR * SECTOR;
    let mut format = Command::new("mkfs.vfat");
    format.args([
        "-F",
        "16",
        "-n",
        "VIRGA",
        "--invariant",
        "-i",
        &format!("{SERIAL:08x}"),
        "--offset",
    ]);
    format
        .arg(FIRST_SECTOR.to_string())
        .arg(&raw)
        .arg(((DISK_BYTES - offset) / 1024).to_string());
    step("formatting the boot partition", &mut format)?;

    let mut install = Command::new("syslinux");
    install.args(["--install", "--offset", &offset.to_string()]).arg(&raw);
    step("installing syslinux", &mut install)?;

    let syslinux = format!(
        "DEFAULT guest\nPROMPT 0\nTIMEOUT 0\nLABEL guest\n KERNEL /vmlinuz\n INITRD /initrd\n APPEND {}\n",
        content.command_line
    );
    let entry = format!(
        "title guest\nlinux /vmlinuz\ninitrd /initrd\noptions {}\n",
        content.command_line
    );
    let volume = format!("{}@@{offset}", raw.display());
    let mut folders = mtools("mmd");
    folders.args(["-i", &volume, "::/EFI", "::/EFI/BOOT", "::/loader", "::/loader/entries"]);
    step("making folders in the boot partition", &mut folders)?;
    let staged = |name: &str, bytes: &[u8]| {
        let path = work.join(name);
        file::write(&path, bytes)?;
        Ok::<_, Error>(path)
    };
    for (file, at) in [
        (content.kernel.to_owned(), "::/vmlinuz"),
        (staged("initrd", content.initramfs)?, "::/initrd"),
        (staged("syslinux.cfg", syslinux.as_bytes())?, "::/syslinux.cfg"),
        (content.uefi_loader.to_owned(), "::/EFI/BOOT/BOOTX64.EFI"),
        (staged("loader.conf", b"timeout 0\n")?, "::/loader/loader.conf"),
        (staged("guest.conf", entry.as_bytes())?, "::/loader/entries/guest.conf"),
    ] {
        let mut copy = mtools("mcopy");
        copy.args(["-i", &volume]).arg(&file).arg(at);
        step("copying into the boot partition", &mut copy)?;
    }

    let record = boot_record(&boot_code)?;
    write_start(&raw, &record).map_err(file::failed("partitioning", &raw))?;
    let mut convert = Command::new("qemu-img");
    convert
        .args(["convert", "-q", "-f", "raw", "-O", "qcow2", "-c"])
        .arg(&raw)
        .arg(target);
    step("compressing the disk", &mut convert)
}

fn step(doing: &'static str, command: &mut Command) -> Result<(), Error> {
    // mtools and syslinux (which runs mtools) take the time from here.
    command.env("SOURCE_DATE_EPOCH", "0").env("TZ", "UTC");
    command::output(command, STEP_LIMIT).map_err(command::failed(doing))?;
    Ok(())
}

fn mtools(program: &str) -> Command {
    let mut command = Command::new(program);
    // The geometry in the boot sector is not this file's; nothing uses it.
    command.env("MTOOLS_SKIP_CHECK", "1");
    command
}

fn write_start(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    fs::OpenOptions::new().write(true).open(path)?.write_all_at(bytes, 0)
}

/// The master boot record: boot code, signature, one bootable FAT partition over the rest of the disk.
fn boot_record(boot_code: &[u8]) -> Result<[u8; 512], Error> {
    // LBA addresses only: the cylinder fields say "beyond what can be said here".
    const BEYOND: [u8; 3] = [0xfe, 0xff, 0xff];
    const BOOTABLE: u8 = 0x80;
    const FAT16_LBA: u8 = 0x0e;
    if boot_code.len() > BOOT_CODE_BYTES {
        return Err(Error::BootCode {
            length: boot_code.len(),
        });
    }
    let mut record = [0; 512];
    record[..boot_code.len()].copy_from_slice(boot_code);
    record[440..444].copy_from_slice(&SERIAL.to_le_bytes());
    let start = FIRST_SECTOR.to_le_bytes();
    let length = (DISK_BYTES / SECTOR - FIRST_SECTOR).to_le_bytes();
    let [a, b, c] = BEYOND;
    record[446..454].copy_from_slice(&[BOOTABLE, a, b, c, FAT16_LBA, a, b, c]);
    record[454..458].copy_from_slice(&start[..4]);
    record[458..462].copy_from_slice(&length[..4]);
    record[510..].copy_from_slice(&[0x55, 0xaa]);
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_record_has_one_bootable_partition_to_the_end_of_the_disk() {
        let record = boot_record(&[0x90; BOOT_CODE_BYTES]).expect("it fits");
        assert_eq!(record[439..444], [0x90, 0x47, 0x52, 0x49, 0x56]);
        assert_eq!((record[446], record[450]), (0x80, 0x0e));
        assert_eq!(
            record[454..462],
            [0, 8, 0, 0, 0, 0xf8, 1, 0],
            "sector 2048, and 129024 sectors"
        );
        assert!(record[462..510].iter().all(|byte| *byte == 0), "no second partition");
        assert_eq!(record[510..], [0x55, 0xaa]);
    }

    #[test]
    fn boot_code_that_would_cover_the_partition_table_is_refused() {
        assert!(matches!(boot_record(&[0; 441]), Err(Error::BootCode { length: 441 })));
    }
}
