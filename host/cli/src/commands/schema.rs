//! `dagster-ray schema`: prints the JSON schema of a component's manifest.

use dagster_ray_runtime::manifest::Manifest;

use crate::context::Context;
use crate::exit::Exit;

/// Print the JSON schema of a component's manifest
///
/// An editor that knows the schema completes and checks the manifest, the TOML file beside a component.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dagster-ray schema > manifest.schema.json")]
pub(crate) struct Arguments {}

pub(crate) fn run(_: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    let schema = Manifest::schema();
    context.output.result(&schema, |out| writeln!(out, "{schema:#}"))?;
    Ok(Exit::Done)
}
