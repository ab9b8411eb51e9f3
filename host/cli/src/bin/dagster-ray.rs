//! The command as a standalone program.

use std::process::ExitCode;

use dagster_ray_cli::{Installation, Interrupt, run};

fn main() -> ExitCode {
    match Interrupt::from_signals() {
        Ok(interrupt) => run(std::env::args_os(), Installation::from_environment(), interrupt).into(),
        Err(error) => {
            eprintln!("error: the signal handlers cannot be installed: {error}");
            ExitCode::FAILURE
        }
    }
}
