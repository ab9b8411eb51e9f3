//! `dagster-ray inspect`: what a component is, before it runs.

use std::io::{self, Write};

use dagster_ray_runtime::Inspection;

use crate::component::{self, COMPONENT_HELP};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{BAD, FAINT, HEADING, WARNING, size};

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
    context.output.result(&inspection, |out| text(out, &inspection))?;
    Ok(Exit::Done)
}

fn text(out: &mut dyn Write, inspection: &Inspection) -> io::Result<()> {
    let field = |name: &str| format!("{HEADING}{name:<10}{HEADING:#}");
    let manifest = if inspection.manifest.is_file() {
        inspection.manifest.display().to_string()
    } else {
        "none: it is lent the address and the directories that the configuration names".to_owned()
    };
    writeln!(out, "{}{}", field("name"), inspection.name)?;
    writeln!(out, "{}{}", field("file"), inspection.path.display())?;
    writeln!(out, "{}{manifest}", field("manifest"))?;
    writeln!(out, "{}{} {FAINT}(sha256){FAINT:#}", field("digest"), inspection.digest)?;
    writeln!(out, "{}{}", field("size"), size(inspection.size as u64))?;
    writeln!(out, "{}{}", field("contract"), inspection.contract)?;
    writeln!(out, "{}{}", field("exports"), inspection.exports.join(", "))?;
    writeln!(out, "{HEADING}grants{HEADING:#}")?;
    for line in &inspection.wanted {
        if inspection.missing.contains(line) {
            writeln!(out, "  {line}  {BAD}missing: it cannot be loaded without{BAD:#}")?;
        } else {
            writeln!(out, "  {line}")?;
        }
    }
    for grant in &inspection.unused {
        writeln!(out, "  {grant}  {WARNING}granted, but nothing that it imports could use it{WARNING:#}")?;
    }
    if inspection.wanted.is_empty() && inspection.unused.is_empty() {
        writeln!(out, "  {FAINT}it wants none{FAINT:#}")?;
    }
    writeln!(out, "{HEADING}imports{HEADING:#}")?;
    // The contract's own and WASI's, each with its kin.
    let mut imports = inspection.imports.clone();
    imports.sort();
    imports.iter().try_for_each(|import| writeln!(out, "  {import}"))
}
