//! The commands of the project: `cargo xtask setup | build | demo | test | fuzz | bench | cluster | wit | wheel`.
//!
//! Each command does all of its own set-up, so that a fresh clone needs nothing else first.

mod bench;
mod build;
mod cluster;
mod components;
mod demo;
mod frozen;
mod fuzz;
mod project;
mod python;
mod registry;
mod setup;
mod stages;
mod test;
mod test_cluster;
mod wheel;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::project::Project;
use crate::stages::Stages;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The commands of dagster-ray-wasm")]
struct Arguments {
    /// Show everything that the programs print, as they print it
    #[arg(long, short, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the machine ready: the wasm target, .venv, the pinned Python requirements
    Setup,
    /// Set up, then build the components, the fixtures of the tests and the extension module
    Build,
    /// Set up and build, then run a real Dagster job on a Ray started for it on this machine
    Demo {
        /// Arguments for examples/demo/run.py (see `cargo xtask demo -- --help`)
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Set up and build, then run every check and every test
    Test {
        /// Leave out the tests marked slow, the fuzzing and the demo
        #[arg(long)]
        fast: bool,
    },
    /// Build the fuzz targets and run each for a while, two at a time
    Fuzz(fuzz::Fuzz),
    /// A real Kubernetes control plane with the KubeRay operator, its pods as processes
    Cluster {
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Set up and build, then measure what is claimed of speed, against Ray and dagster-ray
    Bench {
        #[command(subcommand)]
        bench: bench::Bench,
    },
    /// The frozen texts of the contract's released versions
    Wit {
        #[command(subcommand)]
        command: WitCommand,
    },
    /// Build the wheel into dist/
    Wheel,
}

#[derive(Subcommand)]
enum ClusterCommand {
    /// Build the cluster's programs, those that are not in the cache yet
    Build,
    /// Build what is missing, start the cluster, and stop it on Ctrl-C
    Up {
        /// Arguments for the cluster (see `cargo xtask cluster up -- -help`)
        #[arg(last = true)]
        arguments: Vec<String>,
    },
}

#[derive(Subcommand)]
enum WitCommand {
    /// Compare the contract with what was released
    Check,
    /// Freeze the current text: from now on it is a released version
    Freeze,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match execute(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(arguments: Arguments) -> Result<bool> {
    let project = Project::find()?;
    let mut stages = Stages::new(&project, arguments.verbose)?;
    match arguments.command {
        Command::Setup => {
            setup::run(&project, &mut stages);
        }
        Command::Build => {
            build::run(&project, &mut stages);
        }
        Command::Demo { arguments } => {
            if build::run(&project, &mut stages) {
                stages.close();
                return demo::replace_this_process(&project, &arguments);
            }
        }
        Command::Test { fast } => test::run(&project, &mut stages, fast),
        Command::Fuzz(fuzz) => fuzz::run(&project, &mut stages, &fuzz),
        Command::Cluster { command: ClusterCommand::Build } => {
            cluster::build(&project, &mut stages);
        }
        Command::Cluster { command: ClusterCommand::Up { arguments } } => {
            if cluster::build(&project, &mut stages) {
                stages.close();
                return cluster::replace_this_process(&project, &arguments);
            }
        }
        Command::Bench { bench } => {
            if build::run(&project, &mut stages) && bench::prepare(&project, &mut stages) {
                stages.close();
                return bench::replace_this_process(&project, bench);
            }
        }
        Command::Wit { command } => {
            match command {
                WitCommand::Check => stages.run("contract", |_| frozen::check(&project.wit())),
                WitCommand::Freeze => stages.run("contract", |_| frozen::freeze(&project.wit())),
            };
        }
        Command::Wheel => wheel::run(&project, &mut stages),
    }
    Ok(stages.finish())
}
