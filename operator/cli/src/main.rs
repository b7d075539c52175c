//! The process of `kubectl virga`.

use std::{
    error::Error,
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use clap::Parser as _;
use virga_cli::{
    explain,
    flags::{Args, Command},
    net, simulate, words,
};
use virga_core::trace::Verdict;
use virga_runtime::{class::chain, tls};

/// The status of `--fail-on-refused`: 1 says that something went wrong, and 2 that the flags were.
const REFUSED: u8 = 3;

/// The status of `net trace` when a packet is dropped.
const DROPPED: u8 = 1;

fn main() -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let args = Args::parse();
    let failure = args.command.failure();
    let done = run(args, &mut out);
    let done = done.and_then(|code| out.flush().map(|()| code).map_err(Into::into));
    match done {
        Ok(code) => code,
        // Whoever reads has seen enough, as in `kubectl virga simulate … | head`.
        Err(error) if is_broken_pipe(error.as_ref()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {}", words::printable(&chain(error.as_ref())));
            ExitCode::from(failure)
        }
    }
}

fn run(args: Args, out: &mut dyn Write) -> Result<ExitCode, Box<dyn Error>> {
    match args.command {
        Command::Simulate(args) => {
            let fail_on_refused = args.fail_on_refused;
            let refused = simulate::run(args, out, &mut io::stderr())?;
            if fail_on_refused && refused > 0 {
                return Ok(ExitCode::from(REFUSED));
            }
        }
        Command::Explain(args) => asking(explain::run(args, out))??,
        Command::Net(command) => {
            if asking(net::run(command, out))?? == Some(Verdict::Drops) {
                return Ok(ExitCode::from(DROPPED));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Does what asks a cluster.
fn asking<T>(work: impl Future<Output = T>) -> io::Result<T> {
    tls::install_crypto_provider();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(work))
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind() == io::ErrorKind::BrokenPipe;
        }
        next = error.source();
    }
    false
}
