//! Domains that libvirtd was killed over while it started them.
//!
//! libvirtd notes a domain that it starts in its state directory, at first with `pid='0'`. Killed right then, it reads
//! the note when it is back and takes the domain for one that runs, but looks after processes only (libvirt 11.3,
//! qemuProcessReconnectHelper). So the domain stays "starting up" for ever, with a job that nobody ends and that keeps it
//! from being started, destroyed or undefined. No QEMU belongs to it: libvirtd lets one run only after it has noted its
//! process.
//!
//! Nothing that libvirt can be asked for takes such a domain away. What does: put the note aside, and have libvirtd start
//! anew. Guests don't notice that.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use quick_xml::Reader;
use quick_xml::events::Event;

use super::admin;
use crate::owner::DOMAIN_NAMESPACE;

/// Longer than any note: they are around 20 KiB.
const LONGEST_NOTE: u64 = 1 << 20;
/// What a note is called that was put aside: libvirtd reads those that end with `.xml`.
const ASIDE: &str = "half-started";

/// Looks for such domains of ours, and has libvirtd start anew when there are any. Returns whether it is about to.
///
/// To be called right after a connection was opened: then libvirtd has read all notes, and one without a process that is
/// older than libvirtd itself can't be of a start that is under way.
pub(super) fn mend(uri: &str) -> bool {
    let Some(socket) = socket_of(uri) else { return false };
    let (Some(state), Some(administration)) = (socket.parent(), administration(&socket)) else {
        return false;
    };
    match put_aside(&state.join("qemu")) {
        Ok(0) => false,
        Ok(domains) => match admin::shut_down(&administration) {
            Ok(()) => {
                tracing::warn!(
                    domains,
                    "libvirtd had been killed while it started domains, and is started anew to let go of them"
                );
                true
            }
            Err(error) => {
                tracing::error!(
                    domains,
                    error = error.to_string(),
                    "libvirtd had been killed while it started domains: restart it, or they can't be started or removed"
                );
                false
            }
        },
        Err(error) => {
            tracing::warn!(error = error.to_string(), state = %state.display(), "reading libvirtd's state directory");
            false
        }
    }
}

/// The daemon's socket on this host, when the URI names it.
fn socket_of(uri: &str) -> Option<PathBuf> {
    let (_, query) = uri.split_once('?')?;
    let socket = query.split('&').find_map(|pair| pair.strip_prefix("socket="))?;
    Some(socket.into())
}

/// Puts the notes of such domains aside, and returns for how many libvirtd has to start anew: those just found, and those
/// put aside before for which it has not done so yet.
fn put_aside(notes: &Path) -> io::Result<usize> {
    // Written by libvirtd when it starts. Where it is missing, libvirtd runs elsewhere.
    let started = match fs::metadata(notes.join("driver.pid")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        result => result?.modified()?,
    };
    let mut waiting = 0;
    for entry in fs::read_dir(notes)? {
        let entry = entry?;
        let path = entry.path();
        let modified = entry.metadata()?.modified()?;
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("xml") if modified < started && is_half_started(&path)? => {
                let aside = path.with_added_extension(ASIDE);
                fs::rename(&path, &aside)?;
                // From its time we know later whether libvirtd has started since.
                File::options()
                    .write(true)
                    .open(&aside)?
                    .set_modified(SystemTime::now())?;
                waiting += 1;
            }
            Some(ASIDE) if modified < started => fs::remove_file(&path)?,
            Some(ASIDE) => waiting += 1,
            _ => {}
        }
    }
    Ok(waiting)
}

/// Whether a note tells of a domain of ours without a process.
fn is_half_started(note: &Path) -> io::Result<bool> {
    let mut text = String::new();
    File::open(note)?.take(LONGEST_NOTE).read_to_string(&mut text)?;
    if !text.contains(DOMAIN_NAMESPACE) {
        return Ok(false);
    }
    let mut reader = Reader::from_str(&text);
    loop {
        match reader.read_event().map_err(io::Error::other)? {
            Event::Start(root) => {
                let pid = root.try_get_attribute("pid").map_err(io::Error::other)?;
                return Ok(root.name().as_ref() == "domstatus" && pid.is_some_and(|pid| pid.value.as_ref() == "0"));
            }
            Event::Eof => return Ok(false),
            _ => {}
        }
    }
}

/// Beside libvirt-sock there is libvirt-admin-sock, beside virtqemud-sock virtqemud-admin-sock.
fn administration(socket: &Path) -> Option<PathBuf> {
    let daemon = socket.file_name()?.to_str()?.strip_suffix("-sock")?;
    Some(socket.with_file_name(format!("{daemon}-admin-sock")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn note(pid: u32, namespace: &str) -> String {
        format!(
            "<!--\nWARNING\n-->\n\n<domstatus state='paused' reason='starting up' pid='{pid}'>\
             <domain><metadata><virga:instance xmlns:virga='{namespace}'/></metadata></domain></domstatus>"
        )
    }

    fn written(directory: &Path, name: &str, text: &str, at: SystemTime) {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(at)
            .unwrap();
    }

    #[test]
    fn only_ours_without_a_process_and_older_than_libvirtd_are_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let notes = directory.path();
        assert_eq!(put_aside(notes).unwrap(), 0, "no libvirtd here");
        let started = SystemTime::now() - Duration::from_mins(1);
        let (before, after) = (started - Duration::from_secs(1), started + Duration::from_secs(1));
        written(notes, "driver.pid", "7\n", started);
        written(notes, "lost.xml", &note(0, DOMAIN_NAMESPACE), before);
        written(notes, "starting.xml", &note(0, DOMAIN_NAMESPACE), after);
        written(notes, "running.xml", &note(4711, DOMAIN_NAMESPACE), before);
        written(notes, "foreign.xml", &note(0, "https://example.org/"), before);
        written(notes, "lost.pid", "0", before);

        assert_eq!(put_aside(notes).unwrap(), 1);
        let names = || {
            let entries = fs::read_dir(notes).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let others = ["driver.pid", "foreign.xml", "lost.pid"];
        let with = |name| {
            let mut all = [others.as_slice(), &[name, "running.xml", "starting.xml"]].concat();
            all.sort_unstable();
            all
        };
        assert_eq!(names(), with("lost.xml.half-started"));
        assert_eq!(put_aside(notes).unwrap(), 1, "libvirtd has not started anew yet");

        written(notes, "driver.pid", "8\n", SystemTime::now() + Duration::from_secs(1));
        fs::remove_file(notes.join("starting.xml")).unwrap();
        assert_eq!(put_aside(notes).unwrap(), 0);
        assert_eq!(names(), ["driver.pid", "foreign.xml", "lost.pid", "running.xml"]);
    }

    #[test]
    fn the_socket_is_known_only_where_the_uri_names_it() {
        let socket = socket_of("qemu:///system?socket=/run/libvirt/libvirt-sock");
        assert_eq!(socket.as_deref(), Some(Path::new("/run/libvirt/libvirt-sock")));
        let administration = administration(&socket.unwrap());
        assert_eq!(
            administration.as_deref(),
            Some(Path::new("/run/libvirt/libvirt-admin-sock"))
        );
        assert_eq!(socket_of("test:///default"), None);
    }
}
