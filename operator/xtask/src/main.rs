//! Project tasks: `cargo xtask TASK`. Each task is a module with its arguments (`Args`) and `run`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod closure;
mod command;
mod demo;
mod deps;
mod digest;
mod file;
mod r#gen;
mod guest;
mod image;
mod lab;
mod machine;
mod scale;
mod sections;
mod tree;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Project tasks", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

// One variant and one match arm a task, in alphabetical order.
#[derive(Subcommand)]
enum Task {
    /// Measure Virga, and write docs/performance.md
    Bench(bench::Args),
    /// Show it all: a lab, Virga in it, the samples, a guest that answers
    Demo(demo::Args),
    /// Install the Debian packages that building and testing need
    Deps(deps::Args),
    /// Regenerate all that is generated and committed
    Gen(r#gen::Args),
    /// A small bootable guest for tests
    Guest(guest::Args),
    /// OCI archives of the processes
    Image(image::Args),
    /// A real Kubernetes with libvirt nodes on this machine
    Lab(lab::Args),
    /// Measure the controller with a whole cloud on paper and kill its leader, and write docs/scale.md
    Scale(scale::Args),
}

fn main() -> ExitCode {
    let outcome: Result<(), Box<dyn std::error::Error>> = match Cli::parse().task {
        Task::Bench(args) => bench::run(&args).map_err(Into::into),
        Task::Demo(args) => demo::run(&args).map_err(Into::into),
        Task::Deps(args) => deps::run(&args).map_err(Into::into),
        Task::Gen(args) => r#gen::run(args).map_err(Into::into),
        Task::Guest(args) => guest::run(&args).map_err(Into::into),
        Task::Image(args) => image::run(args).map_err(Into::into),
        Task::Lab(args) => lab::run(args).map_err(Into::into),
        Task::Scale(args) => scale::run(&args).map_err(Into::into),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// The error and its sources on one line; each error says only what it was doing itself.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
