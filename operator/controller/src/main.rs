//! `virga-controller`: see the library.

use std::process::ExitCode;

use clap::Parser;
use virga_controller::flags::Args;
use virga_runtime::class::chain;

#[tokio::main]
async fn main() -> ExitCode {
    virga_runtime::tls::install_crypto_provider();
    match virga_controller::run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Logging may be what failed.
            eprintln!("virga-controller: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}
