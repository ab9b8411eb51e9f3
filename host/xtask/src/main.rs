//! The development commands of this repository: `cargo xtask demo`, `test`, `build`, `develop`, `wheel`.
//!
//! Each command sets up what it needs, so a fresh clone needs no other step.

mod areas;
mod background;
mod bench;
mod build;
mod circles;
mod cluster;
mod components;
mod contract;
mod debian;
mod demo;
mod docs;
mod environment;
mod faults;
mod files;
mod frozen;
mod fuzz;
mod go;
mod installed;
mod interpreter;
mod matrix;
mod names;
mod optimizer;
mod project;
mod registry;
mod release;
mod side_by_side;
mod stages;
mod test;
mod test_cluster;
mod toolchain;
mod uv;
mod wheel;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::environment::Environment;
use crate::project::Project;
use crate::stages::Stages;

const HELP: &str = "\
From a fresh clone:
  cargo xtask demo             run the demo; sets up and builds what it needs
  cargo xtask test             run all checks and tests, as continuous integration does

During development:
  cargo xtask develop          once; Python edits then need no build
  cargo xtask test --list      list the test areas
  cargo xtask test python io   run the tests of these areas
  cargo xtask test launcher -- -k resume

Each command sets up what it needs inside the repository, in .venv and target. The output of a stage
is in target/xtask/<stage>.log.";

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Development commands of dagster-ray-wasm", after_help = HELP)]
struct Arguments {
    /// Show the output of all programs while they run
    #[arg(long, short, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start Ray on this machine and run a Dagster job on it
    Demo {
        /// Arguments for examples/demo/run.py, such as `--isolation task` (`-- --help` lists them)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run all checks and tests, or those of some areas
    Test(test::Test),
    /// Build the wheel and install it in .venv, with the requirements of the tests
    Build,
    /// Build, and make .venv use the Python source tree: an edited Python file needs no build
    Develop,
    /// Build the wheel, audit it and copy it to dist/
    Wheel,
    /// Build the documentation site in target/docs/site, and check its links
    Docs,
    /// Check that the tree can be released, and print what is left to do
    Release(release::Release),
    /// Search for inputs that violate the properties of tests/fuzz, with libFuzzer
    Fuzz(fuzz::Fuzz),
    /// Run the fault matrix of tests/faults on a real Ray, and write docs/reliability.md
    Faults(faults::Faults),
    /// Perform random launches, kills, restarts and network faults on a real Ray
    Soak(faults::Soak),
    /// Manage a real Kubernetes control plane with the KubeRay operator, with processes as pods
    Cluster {
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Run a benchmark against Ray and against dagster-ray from PyPI
    Bench {
        #[command(subcommand)]
        bench: bench::Bench,
    },
    /// Check the contract, freeze its released versions, generate its Python module
    Wit {
        #[command(subcommand)]
        command: WitCommand,
    },
}

#[derive(Subcommand)]
enum ClusterCommand {
    /// Build the cluster's programs that are not in the cache
    Build,
    /// Build missing programs, start the cluster, and stop it on Ctrl-C
    Up {
        /// The folder of tests/cluster/programs that requires the KubeRay operator
        #[arg(long, value_name = "FOLDER", default_value = cluster::KUBERAY)]
        operator: String,
        /// Arguments for the cluster (see `cargo xtask cluster up -- -help`)
        #[arg(last = true)]
        arguments: Vec<String>,
    },
}

#[derive(Subcommand)]
enum WitCommand {
    /// Compare the contract with its released versions and with its Python module
    Check,
    /// Freeze the current text as a released version
    Freeze,
    /// Generate host/python/dagster_ray/contract.py from the contract
    Python,
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
        Command::Docs => {
            if build::run(&project, &stages, Environment::Demo).is_some() {
                docs::run(&project, &stages);
            }
        }
        Command::Release(release) => release.run(&project, &stages)?,
        Command::Test(test) if test.list => {
            test.print_areas();
            return Ok(true);
        }
        Command::Test(test) => test.run(&project, &stages),
        Command::Fuzz(fuzz) => fuzz::run(&project, &stages, &fuzz),
        Command::Faults(faults) => {
            if build::run(&project, &stages, Environment::Test).is_some() {
                faults.run(&project, &stages);
            }
        }
        Command::Soak(soak) => {
            if build::run(&project, &stages, Environment::Test).is_some() {
                soak.run(&project, &stages);
            }
        }
        Command::Cluster { command: ClusterCommand::Build } => {
            cluster::build(&project, &stages, cluster::KUBERAY);
        }
        Command::Cluster { command: ClusterCommand::Up { operator, arguments } } => {
            if cluster::build(&project, &stages, &operator) {
                stages.close();
                return cluster::replace_this_process(&project, &operator, &arguments);
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
                WitCommand::Check => test::check_contract(&project, &stages),
                WitCommand::Freeze => stages.run("contract", |_| frozen::freeze(&project.wit())),
                WitCommand::Python => stages.run("contract", |_| contract::write(&project)),
            };
        }
        Command::Wheel => wheel::run(&project, &stages),
    }
    Ok(stages.finish())
}
