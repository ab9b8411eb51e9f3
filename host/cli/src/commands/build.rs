//! `dagster-ray build`: builds and installs the component of a project once.

use crate::build::{ComponentBuild, Target};
use crate::context::Context;
use crate::exit::Exit;

/// Build the component of a project, and install it as a file
///
/// The file is replaced atomically, and only by a build that loads with its manifest. A project with a
/// Cargo.toml is built by cargo, one with app.py and wit/ by componentize-py.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dagster-ray build my-backend
  dagster-ray build . --to /opt/dagster/backend.wasm --manifest mine.toml
  dagster-ray build . --to mine.wasm --build 'make component OUT=\"$OUTPUT\"'")]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(arguments: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    let build = ComponentBuild::new(&arguments.target)?;
    let event = build.build_and_install(context)?;
    build.report(context, &event)?;
    Ok(Exit::Done)
}
