//! The lab's processes, found by a mark in their environment.
//!
//! Every process that the lab starts carries the lab's random id in its environment, and inherits it to its children.
//! A process is ours if and only if it has the mark, so nothing has to be written down between a start and its record,
//! a recorded number that meanwhile belongs to somebody else can't be killed, and a lab whose maker died half-way is
//! found as a whole.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::command;
use crate::wait;

/// The variable that holds the lab's id.
pub const MARK: &str = "VIRGA_LAB_ID";

/// The variable that holds the process's name within the lab.
const NAME: &str = "VIRGA_LAB_PROCESS";

/// How long a process may look as if it had no environment while it has one.
const EXEC: Duration = Duration::from_millis(500);

/// The most that is read of an environment.
const MOST: usize = 256 << 10;

/// How long a killed process may take to be gone.
const DEATH: Duration = Duration::from_secs(10);

/// Marks a command before it is started.
pub fn mark<'a>(command: &'a mut Command, id: &str, name: &str) -> &'a mut Command {
    command.env(MARK, id).env(NAME, name)
}

/// A command for a process that outlives its starter: in a session of its own, so that a Ctrl-C for the starter does not
/// reach it; a child of the machine's init, which reaps it when it ends; with its output in a file. What is spawned ends
/// at once and has to be waited for; the process itself is found by its mark.
pub fn detached(log: &Path) -> io::Result<Command> {
    let log = File::options().create(true).append(true).open(log)?;
    let mut command = Command::new("setsid");
    command
        .arg("--fork")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(command)
}

/// Every living process of the lab.
pub fn all(id: &str) -> Vec<u32> {
    matching(&[format!("{MARK}={id}")])
}

/// The living processes of the lab with this name: the one started by it and its children.
pub fn named(id: &str, name: &str) -> Vec<u32> {
    matching(&[format!("{MARK}={id}"), format!("{NAME}={name}")])
}

fn matching(marks: &[String]) -> Vec<u32> {
    running()
        .filter(|&pid| {
            let environment = environment(pid);
            marks.iter().all(|mark| {
                environment
                    .split(|&byte| byte == 0)
                    .any(|entry| entry == mark.as_bytes())
            })
        })
        .collect()
}

/// A process's environment; nothing for kernel threads, zombies, and what has just ended.
///
/// It also reads as empty in the instant in which a process becomes another program, and it ends in the middle if that
/// happens between two reads: so it is read at once, and again.
fn environment(pid: u32) -> Vec<u8> {
    let found = wait::until_every(Duration::from_millis(1), EXEC, || {
        let mut environment = vec![0; MOST];
        let length = File::open(format!("/proc/{pid}/environ")).and_then(|mut file| file.read(&mut environment));
        environment.truncate(length.unwrap_or_default());
        (!environment.is_empty() || fs::read_link(format!("/proc/{pid}/exe")).is_err()).then_some(environment)
    });
    found.unwrap_or_default()
}

/// A process and all below it, also those in pid namespaces of their own, with the names the kernel has for them. What is
/// orphaned in a pid namespace stays below its first process.
pub fn family(first: u32) -> Vec<(u32, String)> {
    let processes: Vec<Process> = running().filter_map(Process::read).collect();
    let mut family: Vec<u32> = vec![first];
    let mut at = 0;
    while let Some(&parent) = family.get(at) {
        family.extend(
            processes
                .iter()
                .filter(|process| process.parent == parent)
                .map(|process| process.pid),
        );
        at += 1;
    }
    processes
        .into_iter()
        .filter(|process| family.contains(&process.pid))
        .map(|process| (process.pid, process.name))
        .collect()
}

struct Process {
    pid: u32,
    parent: u32,
    name: String,
}

impl Process {
    /// From `/proc/PID/stat`: number, name in parentheses (it may contain some), state, parent.
    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (before, after) = stat.rsplit_once(") ")?;
        let name = before.split_once('(')?.1.to_owned();
        let parent = after.split(' ').nth(1)?.parse().ok()?;
        Some(Self { pid, parent, name })
    }
}

/// Whether the process is the first of a pid namespace of its own.
pub fn is_init(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ids = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .unwrap_or_default();
    let ids: Vec<&str> = ids.split_whitespace().collect();
    ids.len() > 1 && ids.last() == Some(&"1")
}

/// Whether it exists and is not a zombie: a zombie holds nothing but its number, until its parent looks.
pub fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit(") ")
            .next()
            .is_some_and(|rest| !rest.starts_with(['Z', 'X']))
    })
}

/// Ends processes the hard way and waits until they are gone; returns those that are still there when time is up.
pub fn kill(pids: &[u32]) -> Result<Vec<u32>, command::Error> {
    if pids.is_empty() {
        return Ok(Vec::new());
    }
    // Its status says only that one of them had ended before.
    command::output(
        Command::new("kill").arg("-9").args(pids.iter().map(u32::to_string)),
        "",
        command::SHORT,
    )?;
    wait::until_true(DEATH, || !pids.iter().any(|&pid| is_alive(pid)));
    Ok(pids.iter().copied().filter(|&pid| is_alive(pid)).collect())
}

fn running() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_becomes_another_program_is_never_missed() {
        let id = format!("test-{}", fastrand::u64(..));
        let again = "n=$1; [ $n -gt 0 ] || exec sleep 60; exec sh -c \"$2\" again $((n - 1)) \"$2\"";
        let mut command = Command::new("sh");
        command.args(["-c", again, "again", "200", again]);
        let mut process = mark(&mut command, &id, "changing").spawn().unwrap();
        let comm = format!("/proc/{}/comm", process.id());
        while fs::read_to_string(&comm).unwrap().trim() != "sleep" {
            assert_eq!(named(&id, "changing"), [process.id()]);
        }
        process.kill().unwrap();
        process.wait().unwrap();
    }

    #[test]
    fn only_marked_processes_are_found_and_killed() {
        let id = format!("test-{}", fastrand::u64(..));
        let mut ours = mark(Command::new("sleep").arg("60"), &id, "sleeper").spawn().unwrap();
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        // The environment is the parent's until the child has started its program.
        assert!(wait::until_true(DEATH, || named(&id, "sleeper") == [ours.id()]));
        assert!(named(&id, "other").is_empty());
        assert_eq!(kill(&all(&id)).unwrap(), Vec::<u32>::new());
        assert!(is_alive(other.id()));
        other.kill().unwrap();
        other.wait().unwrap();
        ours.wait().unwrap();
        assert!(all(&id).is_empty());
    }
}
