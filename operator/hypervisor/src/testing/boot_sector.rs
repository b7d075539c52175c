//! The smallest guest that does what a guest should: 512 bytes in place of an operating system.
//!
//! It says [`GREETING`] on the serial port, then says back what it hears there, and powers off when the power button is
//! pressed. So consoles, shutdown and events are tested on real QEMU without a kernel.

use std::path::Path;

/// What the guest says when it runs.
pub const GREETING: &str = "virga-guest\r\n";

/// 16-bit code that the BIOS loads at 0x7c00. Ports: 0x3f8 is the first serial port; on q35, after SeaBIOS has set
/// them up, 0x600 and 0x602 are ACPI's PM1 status and enable registers and 0x604 is PM1 control.
const CODE: &[u8] = &[
    0x31, 0xc0, //             xor ax, ax
    0x8e, 0xd8, //             mov ds, ax
    0xbe, 0x00, 0x7c, //       mov si, 0x7c00       ; plus the place of the greeting, filled in by `sector`
    0xba, 0xf8, 0x03, //       mov dx, 0x3f8
    0xac, // say:              lodsb
    0x84, 0xc0, //             test al, al
    0x74, 0x03, //             jz arm
    0xee, //                   out dx, al
    0xeb, 0xf8, //             jmp say
    0xba, 0x02, 0x06, // arm:  mov dx, 0x602
    0xb8, 0x00, 0x01, //       mov ax, 0x100        ; enable the power button's bit
    0xef, //                   out dx, ax
    0xfb, // idle:             sti
    0xf4, //                   hlt                  ; the timer wakes us 18 times a second
    0xba, 0xfd, 0x03, //       mov dx, 0x3fd
    0xec, //                   in al, dx
    0xa8, 0x01, //             test al, 1           ; has the serial port a byte for us?
    0x74, 0x05, //             jz button
    0xba, 0xf8, 0x03, //       mov dx, 0x3f8
    0xec, //                   in al, dx
    0xee, //                   out dx, al
    0xba, 0x00, 0x06, // button: mov dx, 0x600
    0xed, //                   in ax, dx
    0xf6, 0xc4, 0x01, //       test ah, 1           ; was the power button pressed?
    0x74, 0xe8, //             jz idle
];

/// What follows `CODE`: power off, before the greeting.
const TAIL: &[u8] = &[
    0xba, 0x04, 0x06, //       mov dx, 0x604
    0xb8, 0x00, 0x20, //       mov ax, 0x2000       ; SLP_EN with sleep type 0, which is S5 in QEMU
    0xef, //                   out dx, ax
    0xeb, 0xdf, //             jmp idle
];

/// The sector.
pub fn sector() -> Vec<u8> {
    let mut sector = [CODE, TAIL].concat();
    let greeting = u8::try_from(sector.len()).unwrap_or(u8::MAX);
    // The operand of `mov si` is where the greeting lies: 0x7c00 plus what comes before it.
    sector[5] = greeting;
    sector.extend_from_slice(GREETING.as_bytes());
    sector.push(0);
    sector.resize(510, 0);
    sector.extend_from_slice(&[0x55, 0xaa]);
    sector
}

/// Writes a raw disk image of 1 MiB that starts with the sector.
pub fn write_disk(path: &Path) -> std::io::Result<()> {
    let mut disk = sector();
    disk.resize(1 << 20, 0);
    std::fs::write(path, disk)
}
