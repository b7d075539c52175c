//! Outside programs with a deadline.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often a running program is asked whether it has ended.
const POLL: Duration = Duration::from_millis(10);

/// What went wrong with an outside program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("starting {program}")]
    Start {
        /// The program's name.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It ended with a failure.
    #[error("{command} ended with {status}: {stderr}")]
    Failed {
        /// The whole command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// It was still running at its deadline, and was killed.
    #[error("{command} did not end within {limit_s} s")]
    Deadline {
        /// The whole command line.
        command: String,
        /// The deadline in seconds.
        limit_s: u64,
    },
    /// Waiting for it failed.
    #[error("waiting for {program}")]
    Wait {
        /// The program's name.
        program: String,
        /// Why.
        source: std::io::Error,
    },
}

/// What a program was to do was not done.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct Failed {
    /// What was being done.
    doing: String,
    /// Why.
    source: Error,
}

/// Makes the error: what was being done.
pub fn failed(doing: impl Into<String>) -> impl FnOnce(Error) -> Failed {
    let doing = doing.into();
    move |source| Failed { doing, source }
}

/// Runs a program to its end without input and returns what it wrote to standard output. Its standard error is part
/// of the error when it fails. It is killed when it takes longer than `limit`.
pub fn output(command: &mut Command, limit: Duration) -> Result<Vec<u8>, Error> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command, limit)
}

/// Like [`output`], as text. Bytes that are not UTF-8 are replaced.
pub fn text(command: &mut Command, limit: Duration) -> Result<String, Error> {
    Ok(String::from_utf8_lossy(&output(command, limit)?).into_owned())
}

/// Runs a program to its end without input; what it writes is shown to the user.
pub fn show(command: &mut Command, limit: Duration) -> Result<(), Error> {
    finish(command, limit).map(drop)
}

fn finish(command: &mut Command, limit: Duration) -> Result<Vec<u8>, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let line = format!("{command:?}");
    let mut child = command.stdin(Stdio::null()).spawn().map_err(|source| Error::Start {
        program: program.clone(),
        source,
    })?;
    // The pipes are drained on their own threads, so that a full one can't stop the program.
    let stdout = child.stdout.take().map(drain);
    let stderr = child.stderr.take().map(drain);
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|source| Error::Wait {
            program: program.clone(),
            source,
        })? {
            break status;
        }
        if Instant::now() >= deadline {
            // It may have ended by itself just now; either way it is gone afterwards.
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::Deadline {
                command: line,
                limit_s: limit.as_secs(),
            });
        }
        thread::sleep(POLL);
    };
    if status.success() {
        return Ok(stdout.map(collect).unwrap_or_default());
    }
    let stderr = stderr.map(collect).unwrap_or_default();
    let stderr = String::from_utf8_lossy(&stderr);
    let from = stderr.char_indices().rev().nth(2000).map_or(0, |(at, _)| at);
    Err(Error::Failed {
        command: line,
        status,
        stderr: stderr[from..].trim().to_owned(),
    })
}

fn drain(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What could be read is what there is: a broken pipe is the program's end.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

fn collect(reader: thread::JoinHandle<Vec<u8>>) -> Vec<u8> {
    reader.join().unwrap_or_default()
}

/// The folder for what is expensive to build: `${XDG_CACHE_HOME:-$HOME/.cache}/virga`. `None` when neither is set.
pub fn cache_root() -> Option<PathBuf> {
    let folder = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    folder("XDG_CACHE_HOME")
        .or_else(|| Some(folder("HOME")?.join(".cache")))
        .map(|cache| cache.join("virga"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_killed_at_its_deadline() {
        let started = Instant::now();
        let outcome = output(Command::new("sleep").arg("60"), Duration::from_millis(50));
        assert!(matches!(outcome, Err(Error::Deadline { .. })), "{outcome:?}");
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_failure_carries_the_program_s_own_words() {
        let error = output(
            Command::new("sh").args(["-c", "echo no such disk >&2; exit 3"]),
            Duration::from_secs(30),
        )
        .expect_err("the program failed");
        assert!(error.to_string().contains("no such disk"), "{error}");
    }

    #[test]
    fn output_larger_than_a_pipe_arrives_whole() {
        let bytes = output(
            Command::new("head").args(["-c", "1000000", "/dev/zero"]),
            Duration::from_secs(30),
        )
        .expect("head runs");
        assert_eq!(bytes.len(), 1_000_000);
    }
}
