//! The command as a program of its own.

use std::process::ExitCode;

use dagster_ray_cli::{Installation, Interrupt, run};

fn main() -> ExitCode {
    match Interrupt::of_signals() {
        Ok(interrupt) => run(std::env::args_os(), Installation::of_program(), interrupt).into(),
        Err(error) => {
            eprintln!("error: signals cannot be listened to: {error}");
            ExitCode::FAILURE
        }
    }
}
