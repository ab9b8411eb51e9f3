//! `dagster-ray components`: which components there are.

use dagster_ray_runtime::Inspection;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{short, size, table};

/// List the components that are at hand
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dagster-ray components
  dagster-ray components --json | jq -r '.[].digest'")]
pub(crate) struct Arguments {}

#[derive(Serialize)]
struct Row {
    source: &'static str,
    #[serde(flatten)]
    inspection: Inspection,
}

pub(crate) fn run(_: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    let folder = &context.installation.components;
    let mut rows = Vec::new();
    let progress = context.output.progress("looking");
    for name in dagster_ray_registry::built_in(folder) {
        progress.set(format!("looking at {name}"));
        match dagster_ray_runtime::inspect(&folder.join(format!("{name}.wasm"))) {
            Ok(inspection) => rows.push(Row { source: "built-in", inspection }),
            Err(error) => context.output.warn(error),
        }
    }
    drop(progress);
    context.output.result(&rows, |out| {
        let lines = rows.iter().map(|Row { source, inspection }| {
            [
                inspection.name.clone(),
                (*source).to_owned(),
                inspection.exports.join(" "),
                size(inspection.size as u64),
                short(&inspection.digest).to_owned(),
            ]
        });
        writeln!(out, "{}", table(["NAME", "SOURCE", "EXPORTS", "SIZE", "DIGEST"], lines))
    })?;
    Ok(Exit::Done)
}
