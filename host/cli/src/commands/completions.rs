//! `dagster-ray completions`: prints a shell's completions.

use clap_complete::{Shell, generate};

use crate::context::Context;
use crate::exit::Exit;

/// Print the completions for a shell
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dagster-ray completions bash > ~/.local/share/bash-completion/completions/dagster-ray
  dagster-ray completions zsh > ~/.zfunc/_dagster-ray
  dagster-ray completions fish > ~/.config/fish/completions/dagster-ray.fish")]
pub(crate) struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(arguments: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut crate::definition(), "dagster-ray", &mut script);
    let script = String::from_utf8(script)?;
    context.output.result(&script, |out| out.write_all(script.as_bytes()))?;
    Ok(Exit::Done)
}
