//! Disks of guests, made and changed by `qemu-img`.
//!
//! Three rules hold for every call. The program gets arguments, never a shell line, and every path is absolute, so that
//! none can be read as an option, a protocol (`nbd:`) or a `json:` description. The format is always said: QEMU must
//! not guess it from bytes that a guest can write. And a disk appears whole under its name or not at all.

mod error;

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    time::timeout,
};

pub use error::Error;

use crate::{Format, durable};

/// How much of the program's errors is kept.
const MAX_STDERR: u64 = 4 * 1024;
/// How much the program may say on its standard output; `info` says about 1 KiB.
const MAX_STDOUT: u64 = 1024 * 1024;

/// What `qemu-img info` says about a disk.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Info {
    /// The driver that it was opened with.
    pub format: Format,
    /// What the guest sees, in bytes.
    pub virtual_size: u64,
    /// What the file takes of its file system, in bytes.
    #[serde(default)]
    pub actual_size: u64,
    /// The base of an overlay, as written in the overlay.
    #[serde(default, rename = "backing-filename")]
    pub backing_file: Option<PathBuf>,
    /// The base's format, as written in the overlay.
    #[serde(default, rename = "backing-filename-format")]
    pub backing_format: Option<Format>,
}

/// Whether a call had something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done now.
    Changed,
    /// It was so before.
    AlreadySo,
}

/// Makes and changes disks through `qemu-img`.
#[derive(Clone, Debug)]
pub struct QemuImg {
    program: PathBuf,
    limit: Duration,
    copy_limit: Duration,
}

impl Default for QemuImg {
    /// `qemu-img` from the search path, 60 seconds a call and an hour for a copy.
    fn default() -> Self {
        Self {
            program: "qemu-img".into(),
            limit: Duration::from_mins(1),
            copy_limit: Duration::from_hours(1),
        }
    }
}

impl QemuImg {
    /// Uses `program`, with `limit` for each call.
    pub fn new(program: impl Into<PathBuf>, limit: Duration) -> Self {
        Self {
            program: program.into(),
            limit,
            ..Self::default()
        }
    }

    /// Makes a qcow2 overlay at `path` over `base`, which is never written to.
    ///
    /// `virtual_size` in bytes, at least the base's. A disk that is there already is left alone: fine when it has this
    /// base and at least this size (a resize may have come later), else [`Error::Different`].
    pub async fn create_overlay(
        &self,
        base: &Path,
        base_format: Format,
        path: &Path,
        virtual_size: u64,
    ) -> Result<Outcome, Error> {
        let wanted = Wanted {
            format: Format::Qcow2,
            virtual_size,
            base: Some((base, base_format)),
        };
        if self.is_there(path, &wanted).await? {
            return Ok(Outcome::AlreadySo);
        }
        let base_size = self.info(base, base_format).await?.virtual_size;
        if virtual_size < base_size {
            return Err(Error::WouldShrink {
                path: path.to_owned(),
                wanted: virtual_size,
                current: base_size,
            });
        }
        let doing = format!("making the overlay {} over {}", path.display(), base.display());
        self.create(path, &doing, |temporary| {
            let mut arguments = arguments(["create", "-q", "-f", "qcow2", "-F", base_format.as_str(), "-b"]);
            arguments.extend([
                base.into(),
                "--".into(),
                temporary.into(),
                virtual_size.to_string().into(),
            ]);
            (arguments, self.limit)
        })
        .await
    }

    /// Makes an empty disk of `size` bytes at `path`. It takes space as it is written to.
    ///
    /// A disk that is there already is left alone: fine when it has this format, no base and at least this size.
    pub async fn create_blank(&self, path: &Path, size: u64, format: Format) -> Result<Outcome, Error> {
        if self
            .is_there(
                path,
                &Wanted {
                    format,
                    virtual_size: size,
                    base: None,
                },
            )
            .await?
        {
            return Ok(Outcome::AlreadySo);
        }
        self.create(path, &format!("making the disk {}", path.display()), |temporary| {
            let mut arguments = arguments(["create", "-q", "-f", format.as_str(), "--"]);
            arguments.extend([temporary.into(), size.to_string().into()]);
            (arguments, self.limit)
        })
        .await
    }

    /// Makes a full copy of `source` at `path`, in `format`, grown to `virtual_size` bytes: a volume from an image.
    pub async fn create_copy(
        &self,
        source: &Path,
        source_format: Format,
        path: &Path,
        format: Format,
        virtual_size: u64,
    ) -> Result<Outcome, Error> {
        if self
            .is_there(
                path,
                &Wanted {
                    format,
                    virtual_size,
                    base: None,
                },
            )
            .await?
        {
            return Ok(Outcome::AlreadySo);
        }
        let current = self.info(source, source_format).await?.virtual_size;
        if virtual_size < current {
            return Err(Error::WouldShrink {
                path: path.to_owned(),
                wanted: virtual_size,
                current,
            });
        }
        let doing = format!("copying {} to {}", source.display(), path.display());
        let directory = durable::parent(path).map_err(|_| Error::BadPath(path.to_owned()))?;
        let temporary = temporary(directory).map_err(io_error(&doing))?;
        let mut convert = arguments([
            "convert",
            "-q",
            "-f",
            source_format.as_str(),
            "-O",
            format.as_str(),
            "--",
        ]);
        convert.extend([source.into(), temporary.as_os_str().into()]);
        self.run(&doing, convert, self.copy_limit).await?;
        // The name comes last, so that a copy that was never grown is no disk.
        self.grow(&temporary, virtual_size, format, current).await?;
        publish(temporary, path, &doing).await?;
        Ok(Outcome::Changed)
    }

    /// Grows the disk at `path` to `virtual_size` bytes. It must not be in use: a running guest's disk grows through
    /// libvirt. Never shrinks.
    pub async fn resize(&self, path: &Path, format: Format, virtual_size: u64) -> Result<Outcome, Error> {
        check_size(virtual_size)?;
        let current = self.info(path, format).await?.virtual_size;
        let outcome = self.grow(path, virtual_size, format, current).await?;
        if outcome == Outcome::Changed {
            let doing = format!("syncing {}", path.display());
            let file = File::open(path).map_err(io_error(&doing))?;
            blocking(&doing, move || file.sync_all()).await?;
        }
        Ok(outcome)
    }

    /// What is at `path`, which is in `format`. Works while a guest uses the disk, and opens no base.
    pub async fn info(&self, path: &Path, format: Format) -> Result<Info, Error> {
        check_path(path)?;
        let mut arguments = arguments(["info", "-U", "--output=json", "-f", format.as_str(), "--"]);
        arguments.push(path.into());
        let answer = self
            .run(
                &format!("inspecting the disk {}", path.display()),
                arguments,
                self.limit,
            )
            .await?;
        serde_json::from_slice(&answer).map_err(|source| Error::Answer {
            path: path.to_owned(),
            source,
        })
    }

    async fn grow(&self, path: &Path, wanted: u64, format: Format, current: u64) -> Result<Outcome, Error> {
        if wanted == current {
            return Ok(Outcome::AlreadySo);
        }
        if wanted < current {
            return Err(Error::WouldShrink {
                path: path.to_owned(),
                wanted,
                current,
            });
        }
        let mut arguments = arguments(["resize", "-q", "-f", format.as_str(), "--"]);
        arguments.extend([path.into(), wanted.to_string().into()]);
        self.run(&format!("growing the disk {}", path.display()), arguments, self.limit)
            .await?;
        Ok(Outcome::Changed)
    }

    /// Whether the disk is there and as wanted. An error when it is there and different.
    async fn is_there(&self, path: &Path, wanted: &Wanted<'_>) -> Result<bool, Error> {
        check_path(path)?;
        check_size(wanted.virtual_size)?;
        if let Some((base, _)) = wanted.base {
            check_path(base)?;
        }
        match tokio::fs::symlink_metadata(path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(io_error(&format!("looking for the disk {}", path.display()))(source)),
            Ok(metadata) if !metadata.is_file() => {
                let difference = "it is not a file".to_owned();
                return Err(Error::Different {
                    path: path.to_owned(),
                    difference,
                });
            }
            Ok(_) => {}
        }
        let info = self.info(path, wanted.format).await?;
        wanted.difference(&info).map_or(Ok(true), |difference| {
            Err(Error::Different {
                path: path.to_owned(),
                difference,
            })
        })
    }

    async fn create(
        &self,
        path: &Path,
        doing: &str,
        command: impl FnOnce(&Path) -> (Vec<OsString>, Duration),
    ) -> Result<Outcome, Error> {
        let directory = durable::parent(path).map_err(|_| Error::BadPath(path.to_owned()))?;
        let temporary = temporary(directory).map_err(io_error(doing))?;
        let (arguments, limit) = command(&temporary);
        self.run(doing, arguments, limit).await?;
        publish(temporary, path, doing).await?;
        Ok(Outcome::Changed)
    }

    /// Runs the program and returns its standard output. It is killed when time is up or the caller gives up.
    async fn run(&self, doing: &str, arguments: Vec<OsString>, limit: Duration) -> Result<Vec<u8>, Error> {
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| Error::Start {
                program: self.program.clone(),
                source,
            })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let all = async { tokio::join!(child.wait(), drain(stdout, MAX_STDOUT), drain(stderr, MAX_STDERR)) };
        let (status, stdout, stderr) = timeout(limit, all).await.map_err(|_| Error::TimedOut {
            doing: doing.to_owned(),
            limit,
        })?;
        let status = status.map_err(io_error(doing))?;
        if status.success() {
            Ok(stdout)
        } else {
            let stderr = String::from_utf8_lossy(&stderr).trim().to_owned();
            Err(Error::Failed {
                doing: doing.to_owned(),
                status,
                stderr,
            })
        }
    }
}

/// What a disk should be.
struct Wanted<'a> {
    format: Format,
    virtual_size: u64,
    base: Option<(&'a Path, Format)>,
}

impl Wanted<'_> {
    fn difference(&self, info: &Info) -> Option<String> {
        let base = info.backing_file.as_deref().zip(info.backing_format);
        if base != self.base || info.backing_file.is_some() != self.base.is_some() {
            let name = |base: Option<&Path>| base.map_or("no base".to_owned(), |base| base.display().to_string());
            Some(format!(
                "its base is {}, not {}",
                name(info.backing_file.as_deref()),
                name(self.base.map(|(base, _)| base))
            ))
        } else if info.virtual_size < self.virtual_size {
            Some(format!("it has {} bytes, not {}", info.virtual_size, self.virtual_size))
        } else {
            None
        }
    }
}

fn check_path(path: &Path) -> Result<(), Error> {
    if path.is_absolute() {
        Ok(())
    } else {
        Err(Error::BadPath(path.to_owned()))
    }
}

fn check_size(size: u64) -> Result<(), Error> {
    let possible = size > 0 && size.is_multiple_of(512) && size <= crate::inspect::MAX_VIRTUAL_SIZE;
    if possible { Ok(()) } else { Err(Error::BadSize(size)) }
}

fn arguments<const N: usize>(arguments: [&str; N]) -> Vec<OsString> {
    arguments
        .iter()
        .map(|argument| OsStr::new(argument).to_owned())
        .collect()
}

/// An empty file that is removed unless it gets its name.
fn temporary(directory: &Path) -> io::Result<tempfile::TempPath> {
    Ok(tempfile::Builder::new()
        .prefix(durable::TEMPORARY_PREFIX)
        .tempfile_in(directory)?
        .into_temp_path())
}

/// Makes the file durable and gives it its name.
async fn publish(temporary: tempfile::TempPath, path: &Path, doing: &str) -> Result<(), Error> {
    let path = path.to_owned();
    blocking(doing, move || {
        File::open(&temporary)?.sync_all()?;
        // Two callers may race for the name; whoever is second finds the disk there.
        temporary.persist_noclobber(&path).map_err(|refused| refused.error)?;
        durable::sync_directory(durable::parent(&path)?)
    })
    .await
}

async fn blocking(doing: &str, work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
        .map_err(io_error(doing))
}

fn io_error(doing: &str) -> impl FnOnce(io::Error) -> Error + use<> {
    let doing = doing.to_owned();
    move |source| Error::Io { doing, source }
}

/// Keeps the first `max` bytes and reads the rest away, so that the program never blocks on a full pipe.
async fn drain(pipe: Option<impl AsyncRead + Unpin>, max: u64) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut pipe) = pipe {
        // A broken pipe means that the program is gone; its status says the rest.
        let _ = (&mut pipe).take(max).read_to_end(&mut kept).await;
        let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    }
    kept
}
