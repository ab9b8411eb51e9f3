//! The command as a standalone program.

use std::process::ExitCode;

use dagster_ray_cli::{Installation, Interrupt, run};

fn main() -> ExitCode {
    match Interrupt::of_signals() {
        Ok(interrupt) => run(std::env::args_os(), Installation::of_program(), interrupt).into(),
        Err(error) => {
            eprintln!("error: the signal handlers cannot be installed: {error}");
            ExitCode::FAILURE
        }
    }
}
