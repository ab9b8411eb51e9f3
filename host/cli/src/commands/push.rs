//! `dagster-ray push`: publishes a component in a registry.

use std::path::PathBuf;

use dagster_ray_registry::{Location, Pushed, Reference, Transfer, resolve};
use serde::Serialize;

use crate::component;
use crate::context::Context;
use crate::exit::{Exit, Usage};
use crate::output::size;
use crate::signing;

/// Publish a component in a registry, and print the reference that pins it
///
/// The artifact has the layout of `wkg` and also contains the manifest and its signature, which the
/// digest covers. The same files give the same digest. With --sign, the manifest is signed as `dagster-ray
/// sign` does, without a change of the local files. Credentials are those of `docker login`. A registry on this
/// machine is reached over http, all others over https.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dagster-ray push ./backend.wasm oci://ghcr.io/team/backend:1.2
  dagster-ray push ./backend.wasm oci://ghcr.io/team/backend:1.2 --sign release.key
  dagster-ray push ./backend.wasm oci://localhost:5000/backend:dev --json | jq -r .reference")]
pub(crate) struct Arguments {
    /// A built-in name, or the path of a .wasm file
    component: String,
    /// The reference to publish under: oci://host/name:tag
    reference: String,
    /// Sign the component with this secret key, which `dagster-ray keygen` or `minisign -G` has made
    #[arg(long, value_name = "KEYFILE")]
    sign: Option<PathBuf>,
}

#[derive(Serialize)]
struct Answer {
    reference: String,
    sha256: String,
    size: u64,
    with_manifest: bool,
    with_signature: bool,
}

pub(crate) fn run(arguments: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    let usage = |text: String| anyhow::Error::from(Usage(text));
    let reference = Reference::parse(&arguments.reference).map_err(|error| usage(error.to_string()))?;
    let file = match resolve(&arguments.component, &context.installation.components)
        .map_err(|error| usage(error.to_string()))?
    {
        Location::File(path) => path,
        Location::Artifact(pinned) => {
            return Err(usage(format!(
                "{pinned} is already in a registry; to get a file, run `dagster-ray pull {pinned} --output name.wasm`"
            )));
        }
    };
    let signed = arguments.sign.as_deref().map(|key| signing::sign(&file, key)).transpose()?;
    let what = format!("pushing to {reference}");
    let pushed: Pushed = component::wait(context, &what, Transfer::push(&file, reference, signed))?;
    if !pushed.with_manifest {
        let manifest = file.with_extension("toml");
        context.output.warn(format_args!(
            "there is no manifest {}: the component is granted only the address and directories that its user configures",
            manifest.display()
        ));
    }
    let answer = Answer {
        reference: pushed.reference.to_string(),
        sha256: pushed.sha256,
        size: pushed.size,
        with_manifest: pushed.with_manifest,
        with_signature: pushed.with_signature,
    };
    context.output.note(format_args!("pushed {}, {}", file.display(), size(answer.size)));
    context.output.result(&answer, |out| writeln!(out, "{}", answer.reference))?;
    Ok(Exit::Done)
}
