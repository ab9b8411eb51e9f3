//! The command `dagster-ray`: components looked at, called, fetched and published.
//!
//! One file a command, in `commands`. The program `dagster-ray` and the Python package's console
//! script are both [`run`].

mod calling;
mod cassette;
mod commands;
mod component;
mod connection;
mod context;
mod exit;
mod interrupt;
mod output;
mod place;
mod project;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::commands::Command;
use crate::context::Context;
use crate::exit::EXIT_CODES;
use crate::output::Output;

pub use context::Installation;
pub use exit::Exit;
pub use interrupt::Interrupt;

/// Dagster on Ray, through WebAssembly components: look at the components, call them, and hand
/// them on
#[derive(Parser)]
#[command(name = "dagster-ray", bin_name = "dagster-ray", version, arg_required_else_help = true)]
#[command(disable_help_subcommand = true, after_help = EXIT_CODES, max_term_width = 100)]
struct Arguments {
    /// Print one JSON document on standard output, and nothing else there
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// Runs the command that `arguments` are, the name of the program first.
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
    let output = Output::new(arguments.json);
    let mut context = Context::new(output, interrupt, installation);
    let ended = arguments.command.run(&mut context);
    context.close();
    match ended {
        Ok(exit) => exit,
        // `dagster-ray … | head` has seen enough.
        Err(error) if is_broken_pipe(&error) => Exit::Done,
        Err(error) => {
            output.error(&error);
            Exit::of(&error)
        }
    }
}

/// The definition of the command, for shell completions.
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
    fn the_definition_holds_together() {
        super::definition().debug_assert();
    }
}
