//! The commands of the project: `cargo xtask demo | test | build | develop | wheel | …`.
//!
//! Each command does all of its own set-up, so that a fresh clone needs nothing else first.

mod areas;
mod background;
mod bench;
mod build;
mod cluster;
mod components;
mod demo;
mod files;
mod frozen;
mod fuzz;
mod installed;
mod matrix;
mod names;
mod project;
mod python;
mod registry;
mod stages;
mod test;
mod test_cluster;
mod toolchain;
mod uv;
mod wheel;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::project::Project;
use crate::python::Environment;
use crate::stages::Stages;

const HELP: &str = "\
From a fresh clone:
  cargo xtask demo             see it work; sets up and builds what that needs
  cargo xtask test             all checks and tests, as continuous integration runs them

While you work:
  cargo xtask develop          once: Python edits are then used as they are
  cargo xtask test --list      the areas of the tests
  cargo xtask test python io   the tests of these areas
  cargo xtask test launcher -- -k resume

Each command sets up what it needs inside the repository: .venv and target. The output of a stage is
in target/xtask/<stage>.log.";

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "The commands of dagster-ray-wasm", after_help = HELP)]
struct Arguments {
    /// Show everything that the programs print, as they print it
    #[arg(long, short, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a real Dagster job on a Ray started for it on this machine
    Demo {
        /// Arguments for examples/demo/run.py (see `cargo xtask demo -- --help`)
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Run the checks and the tests: all of them, or those of some areas
    Test(test::Test),
    /// Build the wheel and install it in .venv, with everything that the tests need
    Build,
    /// Build, and let .venv use the Python source tree: an edited Python file needs no build
    Develop,
    /// Build the wheel, audit it and copy it into dist/
    Wheel,
    /// Build the fuzz targets and run each for a while, two at a time
    Fuzz(fuzz::Fuzz),
    /// A real Kubernetes control plane with the KubeRay operator, its pods as processes
    Cluster {
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Measure what is claimed of speed, against Ray and against dagster-ray from PyPI
    Bench {
        #[command(subcommand)]
        bench: bench::Bench,
    },
    /// The frozen texts of the contract's released versions
    Wit {
        #[command(subcommand)]
        command: WitCommand,
    },
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
    let stages = Stages::new(&project, arguments.verbose)?;
    match arguments.command {
        Command::Build => {
            build::run(&project, &stages, Environment::Test);
        }
        Command::Develop => {
            build::develop(&project, &stages);
        }
        Command::Demo { arguments } => {
            if build::run(&project, &stages, Environment::Demo).is_some() {
                stages.close();
                return demo::replace_this_process(&project, &arguments);
            }
        }
        Command::Test(test) if test.list => {
            test.print_areas();
            return Ok(true);
        }
        Command::Test(test) => test.run(&project, &stages),
        Command::Fuzz(fuzz) => fuzz::run(&project, &stages, &fuzz),
        Command::Cluster { command: ClusterCommand::Build } => {
            cluster::build(&project, &stages);
        }
        Command::Cluster { command: ClusterCommand::Up { arguments } } => {
            if cluster::build(&project, &stages) {
                stages.close();
                return cluster::replace_this_process(&project, &arguments);
            }
        }
        Command::Bench { bench } => {
            if build::run(&project, &stages, Environment::Test).is_some() && bench::prepare(&project, &stages)
            {
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
        Command::Wheel => wheel::run(&project, &stages),
    }
    Ok(stages.finish())
}
