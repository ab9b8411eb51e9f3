//! `dagster-ray inspect`: what a component is, before it runs.

use crate::component::{self, COMPONENT_HELP};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{FAINT, HEADING, size};

/// Show what a component exports, imports and is granted, without running it
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dagster-ray inspect kuberay
  dagster-ray inspect ./mine.wasm --json | jq .imports")]
pub(crate) struct Arguments {
    #[arg(help = COMPONENT_HELP)]
    component: String,
}

pub(crate) fn run(arguments: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    let found = component::find(context, &arguments.component)?;
    let inspection = dagster_ray_runtime::inspect(&found.path)?;
    context.output.result(&inspection, |out| {
        let field = |name: &str| format!("{HEADING}{name:<10}{HEADING:#}");
        writeln!(out, "{}{}", field("name"), inspection.name)?;
        writeln!(out, "{}{}", field("file"), inspection.path.display())?;
        writeln!(out, "{}{} {FAINT}(sha256){FAINT:#}", field("digest"), inspection.digest)?;
        writeln!(out, "{}{}", field("size"), size(inspection.size as u64))?;
        writeln!(out, "{}{}", field("exports"), inspection.exports.join(", "))?;
        writeln!(out, "{}", field("imports"))?;
        for import in &inspection.imports {
            writeln!(out, "  {import}")?;
        }
        Ok(())
    })?;
    Ok(Exit::Done)
}
