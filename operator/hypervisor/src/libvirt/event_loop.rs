//! libvirt's event loop: one for the process, on a thread of its own.

use std::sync::OnceLock;
use std::time::Duration;

use crate::error::{Error, Result};

/// Registers the loop and starts its thread, the first time that it is asked. It has to be there before a connection is
/// opened, or that connection has neither events nor keep-alive.
pub(super) fn start() -> Result<()> {
    static STARTED: OnceLock<Result<()>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            // Without this libvirt prints every error on standard error.
            virt::error::clear_error_callback();
            let doing = "starting libvirt's event loop";
            virt::event::event_register_default_impl().map_err(|e| Error::failed(doing, e.message()))?;
            std::thread::Builder::new()
                .name("libvirt-events".to_owned())
                .spawn(run)
                .map(|_| ())
                .map_err(|e| Error::failed(doing, &e.to_string()))
        })
        .clone()
}

/// Ends with the process: connections made later need it too.
fn run() {
    loop {
        if let Err(error) = virt::event::event_run_default_impl() {
            tracing::warn!(error = error.message(), "running libvirt's event loop");
            // A failing poll must not become a busy loop.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
