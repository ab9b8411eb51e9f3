//! `dagster-ray pull`: fetches a component from a registry.

use std::path::PathBuf;

use anyhow::Context as _;
use dagster_ray_registry::{Pulled, Reference, Transfer};
use dagster_ray_runtime::signature::signature_path;
use serde::Serialize;

use crate::component;
use crate::context::Context;
use crate::exit::{Exit, Usage};
use crate::install::{self, Files};

/// Fetch a component from a registry, and print the reference that pins it
///
/// The component's digests are verified, and it is stored in this user's cache. After that,
/// `backend: oci://…` works without the registry. If the instance's policy has [signatures], one of its
/// keys must have signed the component. Credentials are those of `docker login`. A registry on this
/// machine is reached over http, all others over https.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dagster-ray pull oci://ghcr.io/team/backend:1.2
  dagster-ray pull oci://ghcr.io/team/backend@sha256:… --output ./backend.wasm")]
pub(crate) struct Arguments {
    /// oci://host/name:tag, or oci://host/name@sha256:…
    reference: String,
    /// Also write the component to this .wasm file, and its manifest and signature beside it
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct Answer {
    reference: String,
    path: PathBuf,
    sha256: Option<String>,
}

pub(crate) fn run(arguments: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    if let Some(output) = &arguments.output
        && output.extension().is_none_or(|extension| extension != "wasm")
    {
        let text = format!("--output {}: write the path of a .wasm file", output.display());
        return Err(Usage(text).into());
    }
    let reference = Reference::parse(&arguments.reference).map_err(|error| Usage(error.to_string()))?;
    let what = format!("fetching {reference}");
    let trusted = context.trusted_keys()?;
    let transfer = Transfer::pull(reference, dagster_ray_runtime::cache_directory(), trusted);
    let pulled: Pulled = component::wait(context, &what, transfer)?;
    let mut path = pulled.component.path;
    if let Some(output) = arguments.output {
        let wasm = std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let manifest = std::fs::read(path.with_extension("toml")).ok();
        let signature = std::fs::read(signature_path(&path)).ok();
        let names = std::fs::read(path.with_extension("names")).ok();
        let files = Files {
            wasm: &wasm,
            manifest: manifest.as_deref(),
            signature: signature.as_deref(),
            names: names.as_deref(),
        };
        install::install(&output, &files)?;
        path = output;
    }
    let answer = Answer { reference: pulled.reference.to_string(), path, sha256: pulled.component.sha256 };
    context.output.note(format_args!("stored in {}", answer.path.display()));
    context.output.result(&answer, |out| writeln!(out, "{}", answer.reference))?;
    Ok(Exit::Done)
}
