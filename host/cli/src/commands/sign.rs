//! `dagster-ray sign`: signs a component file.

use std::path::PathBuf;

use dagster_ray_runtime::manifest::Manifest;
use dagster_ray_runtime::signature::{signature_path, signer_id};
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Exit, Usage};
use crate::install;
use crate::signing;

/// Sign a component file, so that an instance whose policy requires signatures uses it
///
/// The signature is that of the manifest, NAME.toml, and is written to NAME.toml.minisig. The manifest's
/// `sha256` is set to that of the component, so that the signature covers the code and the grants. Sign
/// again after each change of either. `minisign -Vm NAME.toml -p KEY.pub` verifies it too.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dagster-ray sign ./backend.wasm --key release.key
  DAGSTER_RAY_KEY_PASSWORD=… dagster-ray sign ./backend.wasm --key release.key --json")]
pub(crate) struct Arguments {
    /// The path of a .wasm file with a manifest beside it
    component: PathBuf,
    /// The secret key, which `dagster-ray keygen` or `minisign -G` has made
    #[arg(long, value_name = "KEYFILE")]
    key: PathBuf,
}

#[derive(Serialize)]
struct Answer {
    signature: PathBuf,
    manifest: PathBuf,
    /// The id of the key.
    key: String,
}

pub(crate) fn run(arguments: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    let component = arguments.component;
    if component.extension().is_none_or(|extension| extension != "wasm") {
        let text = format!("{}: write the path of a .wasm file", component.display());
        return Err(Usage(text).into());
    }
    let signed = signing::sign(&component, &arguments.key)?;
    let (manifest, signature) = (Manifest::path_of(&component), signature_path(&component));
    install::write(&manifest, signed.manifest.as_bytes())?;
    install::write(&signature, signed.signature.as_bytes())?;
    let key = signer_id(&signed.signature).unwrap_or_default();
    context.output.note(format_args!("signed {} with the key {key}", manifest.display()));
    let answer = Answer { signature, manifest, key };
    context.output.result(&answer, |out| writeln!(out, "{}", answer.signature.display()))?;
    Ok(Exit::Done)
}
