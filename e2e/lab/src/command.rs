//! Other programs, each run with a time limit.

use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long a program that only asks or sets something may take.
pub const SHORT: Duration = Duration::from_secs(30);

/// A program that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not installed, or not in `PATH`.
    #[error("running {command}: no such program; `cargo xtask deps` installs what the lab needs")]
    Missing {
        /// The command line.
        command: String,
    },
    /// It could not be started, fed or read.
    #[error("running {command}")]
    Io {
        /// The command line.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// It ended with a failure.
    #[error("{command} ended with {status}: {message}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said on standard error, or else on standard output.
        message: String,
    },
    /// It was still running when its time was up, and was killed.
    #[error("{command} was still running after {} s", bound.as_secs())]
    TimedOut {
        /// The command line.
        command: String,
        /// Its time limit.
        bound: Duration,
    },
}

/// What a program said and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output, with bytes that are not UTF-8 replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

/// Runs a program to its end and returns what it said, however it ended.
pub fn output(command: &mut Command, input: &str, bound: Duration) -> Result<Output, Error> {
    output_from_pipe(
        command,
        if input.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        },
        input,
        bound,
    )
}

/// [`output`] with a file or the like as standard input.
pub fn output_from(command: &mut Command, stdin: Stdio, bound: Duration) -> Result<Output, Error> {
    output_from_pipe(command, stdin, "", bound)
}

fn output_from_pipe(command: &mut Command, stdin: Stdio, input: &str, bound: Duration) -> Result<Output, Error> {
    let began = Instant::now();
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| not_started(command, source))?;
    // Each pipe has its own thread: a program that fills one while we sit on another would never end.
    let stdin = child.stdin.take();
    let input = input.to_owned();
    thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            // A program may end without reading all of it; its status tells whether that was right.
            let _ = stdin.write_all(input.as_bytes());
        }
    });
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let status = ended(command, &mut child, began, bound)?;
    // A child left behind by the program may hold the pipes open for longer than the program lived.
    let rest = || bound.saturating_sub(began.elapsed()).max(Duration::from_millis(100));
    let late = |_| Error::TimedOut {
        command: line(command),
        bound,
    };
    Ok(Output {
        status,
        stdout: stdout.recv_timeout(rest()).map_err(late)?,
        stderr: stderr.recv_timeout(rest()).map_err(late)?,
    })
}

/// Waits for the end, or brings it about.
fn ended(command: &Command, child: &mut Child, began: Instant, bound: Duration) -> Result<ExitStatus, Error> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait().map_err(|source| io_error(command, source))? {
            return Ok(status);
        }
        if began.elapsed() >= bound {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::TimedOut {
                command: line(command),
                bound,
            });
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Runs a program that has to succeed; returns its standard output.
pub fn run(command: &mut Command, bound: Duration) -> Result<String, Error> {
    run_with_input(command, "", bound)
}

/// Runs a program that has to succeed, with its input and output as they are set.
pub fn run_as_set(command: &mut Command, bound: Duration) -> Result<(), Error> {
    let mut child = command.spawn().map_err(|source| not_started(command, source))?;
    let status = ended(command, &mut child, Instant::now(), bound)?;
    succeeded(
        command,
        Output {
            status,
            stdout: String::new(),
            stderr: String::new(),
        },
    )
    .map(drop)
}

/// [`run`] with something on standard input.
pub fn run_with_input(command: &mut Command, input: &str, bound: Duration) -> Result<String, Error> {
    let output = output(command, input, bound)?;
    succeeded(command, output)
}

/// The standard output of a program that ended well, else [`Error::Failed`].
pub fn succeeded(command: &Command, output: Output) -> Result<String, Error> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = if output.stderr.trim().is_empty() {
        &output.stdout
    } else {
        &output.stderr
    };
    Err(Error::Failed {
        command: line(command),
        status: output.status,
        message: tail(said, 20),
    })
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The error for a program that could not be started.
pub fn not_started(command: &Command, source: io::Error) -> Error {
    if source.kind() == io::ErrorKind::NotFound {
        Error::Missing { command: line(command) }
    } else {
        io_error(command, source)
    }
}

fn io_error(command: &Command, source: io::Error) -> Error {
    Error::Io {
        command: line(command),
        source,
    }
}

fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(|word| word.to_string_lossy()));
    words.join(" ")
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        // Nobody listens after a time-out.
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_says_why() {
        let error = run(Command::new("sh").args(["-c", "echo no disk >&2; exit 3"]), SHORT).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sh -c echo no disk >&2; exit 3 ended with exit status: 3: no disk"
        );
    }

    #[test]
    fn a_program_that_hangs_is_killed_at_its_limit() {
        let error = run(Command::new("sleep").arg("60"), Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    }

    #[test]
    fn a_child_left_behind_does_not_make_the_wait_endless() {
        let began = Instant::now();
        let error = run(
            Command::new("sh").args(["-c", "sleep 5 & true"]),
            Duration::from_millis(200),
        )
        .unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        assert!(began.elapsed() < Duration::from_secs(3));
    }

    #[test]
    fn a_missing_program_names_the_cure() {
        let error = run(&mut Command::new("no-such-program-here"), SHORT).unwrap_err();
        assert!(error.to_string().contains("cargo xtask deps"), "{error}");
    }

    #[test]
    fn output_larger_than_a_pipe_comes_through() {
        let text = run_with_input(&mut Command::new("cat"), &"0123456789".repeat(100_000), SHORT).unwrap();
        assert_eq!(text.len(), 1_000_000);
    }
}
