//! The command `dagster-ray`: inspects, calls, fetches and publishes components.
//!
//! Each command has one file in `commands`. The program `dagster-ray` and the Python package's
//! console script both call [`run`].

#![forbid(unsafe_code)]

mod adapter;
mod build;
mod cassette;
mod commands;
mod component;
mod component_call;
mod connection;
mod context;
mod exit;
mod install;
mod interrupt;
pub mod log;
mod output;
mod project;
mod signing;
mod verbosity;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::commands::Command;
use crate::context::Context;
use crate::exit::{EXIT_CODES, Usage};
use crate::output::Output;
use crate::verbosity::{Filter, StandardError, VARIABLE, VARIABLE_HELP};

pub use context::Installation;
pub use exit::Exit;
pub use interrupt::Interrupt;

/// Dagster on Ray, through WebAssembly components: inspect, call, fetch and publish the components
#[derive(Parser)]
#[command(name = "dagster-ray", bin_name = "dagster-ray", version, arg_required_else_help = true)]
#[command(disable_help_subcommand = true, max_term_width = 100)]
#[command(after_help = format!("{VARIABLE_HELP}\n\n{EXIT_CODES}"))]
struct Arguments {
    /// Print one JSON document on standard output, and nothing else there
    #[arg(long, global = true)]
    json: bool,
    /// Log more on standard error: -v logs info, -vv debug, -vvv trace
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Write only errors to standard error
    #[arg(short, long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

/// Runs the command line `arguments`, whose first element is the program's name.
pub fn run(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    installation: Installation,
    interrupt: Interrupt,
) -> Exit {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done,
                _ => Exit::Usage,
            };
        }
    };
    let output = Output::new(arguments.json, arguments.quiet);
    if let Err(error) = log_to_standard_error(&arguments, output) {
        output.error(&error.into());
        return Exit::Usage;
    }
    let mut context = Context::new(output, interrupt, installation);
    let ended = arguments.command.run(&mut context);
    context.close();
    match ended {
        Ok(exit) => exit,
        // The reader closed standard output, as in `dagster-ray … | head`.
        Err(error) if is_broken_pipe(&error) => Exit::Done,
        Err(error) => {
            output.error(&error);
            Exit::from_error(&error)
        }
    }
}

fn log_to_standard_error(arguments: &Arguments, output: Output) -> Result<(), Usage> {
    if arguments.quiet && arguments.verbose > 0 {
        return Err(Usage("--quiet and --verbose cannot be used together; remove one".into()));
    }
    let variable = std::env::var(VARIABLE).ok();
    let filter = Filter::new(arguments.verbose, arguments.quiet, variable.as_deref())?;
    // This has no effect in a Python process that has already installed its own sink.
    log::install(StandardError { filter, output });
    Ok(())
}

/// Returns the definition of the command line, for shell completions.
pub(crate) fn definition() -> clap::Command {
    Arguments::command()
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        io.or_else(|| cause.downcast_ref::<serde_json::Error>()?.io_error_kind())
    };
    error.chain().any(|cause| kind(cause) == Some(std::io::ErrorKind::BrokenPipe))
}

#[cfg(test)]
mod tests {
    #[test]
    fn command_line_definition_is_valid() {
        super::definition().debug_assert();
    }
}
