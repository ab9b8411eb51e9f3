//! `dagster-ray inspect`: shows what a component is, without running it.

use std::io::{self, Write};

use dagster_ray_runtime::{GrantStatus, Inspection, Limit, Permission, plain};

use crate::component::{self, COMPONENT_HELP};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{BAD, FAINT, HEADING, WARNING, size};

/// Show what a component exports, imports and is granted, without running it
///
/// Under `grants`, each grant of the manifest is listed with the imports that use it. A `missing` grant
/// is one that an import needs and the manifest lacks: the component cannot be loaded. An `unused`
/// grant is one that no import can use.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dagster-ray inspect kuberay
  dagster-ray inspect ./mine.wasm --json | jq '.grants[] | select(.status != \"used\")'")]
pub(crate) struct Arguments {
    #[arg(help = COMPONENT_HELP)]
    component: String,
}

pub(crate) fn run(arguments: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    let found = component::find(context, &arguments.component)?;
    let inspection = dagster_ray_runtime::inspect(&found.path, context.trusted_keys()?.as_ref())?;
    context.output.result(&inspection, |out| text(out, &inspection))?;
    Ok(Exit::Done)
}

fn text(out: &mut dyn Write, inspection: &Inspection) -> io::Result<()> {
    let field = |name: &str| format!("{HEADING}{name:<10}{HEADING:#}");
    let manifest = if inspection.has_manifest {
        inspection.manifest.display().to_string()
    } else {
        format!("none ({} does not exist), so the defaults below apply", inspection.manifest.display())
    };
    writeln!(out, "{}{}", field("name"), inspection.name)?;
    writeln!(out, "{}{}", field("file"), inspection.path.display())?;
    writeln!(out, "{}{manifest}", field("manifest"))?;
    writeln!(out, "{}{} {FAINT}(sha256){FAINT:#}", field("digest"), inspection.digest)?;
    if let Some(digest) = &inspection.manifest_digest {
        writeln!(out, "{}{digest} {FAINT}(manifest_sha256){FAINT:#}", field(""))?;
    }
    if let Some(signature) = &inspection.signature {
        let status = match &signature.trusted_as {
            Some(name) => format!("verified, the policy names the key {name}"),
            None => "not verified: the policy does not name this key, or the manifest was changed".to_owned(),
        };
        writeln!(out, "{}by {} {FAINT}({status}){FAINT:#}", field("signed"), plain(signature.key.clone()))?;
    }
    writeln!(out, "{}{}", field("size"), size(inspection.size as u64))?;
    writeln!(out, "{}{}", field("contract"), inspection.contract)?;
    writeln!(out, "{}{}", field("exports"), inspection.exports.join(", "))?;
    writeln!(out, "{HEADING}grants{HEADING:#}")?;
    if inspection.grants.is_empty() {
        writeln!(out, "  {FAINT}none, and no import needs one{FAINT:#}")?;
    }
    inspection.grants.iter().try_for_each(|permission| grant(out, permission))?;
    writeln!(out, "{HEADING}limits{HEADING:#}")?;
    for Limit { limit, value, is_explicit } in &inspection.limits {
        let note = if *is_explicit { String::new() } else { format!("  {FAINT}(default){FAINT:#}") };
        writeln!(out, "  {limit} = {value}{note}")?;
    }
    writeln!(out, "{HEADING}imports{HEADING:#}")?;
    let mut imports = inspection.imports.clone();
    imports.sort();
    imports.iter().try_for_each(|import| writeln!(out, "  {import}"))
}

/// Writes a grant and the imports that use it.
fn grant(out: &mut dyn Write, permission: &Permission) -> io::Result<()> {
    let users = permission.needed_by.join(", ");
    writeln!(out, "  {}", permission.line)?;
    match permission.status {
        GrantStatus::Used => writeln!(out, "      {FAINT}used by {users}{FAINT:#}"),
        GrantStatus::Unused => {
            writeln!(out, "      {WARNING}unused{WARNING:#}: no import of the component can use it")
        }
        GrantStatus::Missing => writeln!(
            out,
            "      {BAD}missing{BAD:#}: needed by {users}; the component cannot be loaded without it"
        ),
    }
}
