//! `dagster-ray schema`: prints JSON schemas.

use dagster_ray_runtime::instance::InstancePolicy;
use dagster_ray_runtime::manifest::Manifest;

use crate::adapter;
use crate::context::Context;
use crate::exit::Exit;

/// The module of the Python package that knows the configuration.
const MODULE: &str = "dagster_ray.reference";

/// Print the JSON schema of a component's manifest, of the policy, or of a part of the configuration
///
/// An editor that knows the schema completes and checks the file.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dagster-ray schema > manifest.schema.json
  dagster-ray schema policy > dagster-ray.schema.json
  dagster-ray schema launcher    # the value of `config` of the run launcher in dagster.yaml
  dagster-ray schema kuberay     # the value of `backend_config`")]
pub(crate) struct Arguments {
    /// manifest, policy, or a topic of `dagster-ray explain`
    #[arg(value_name = "NAME", default_value = "manifest")]
    name: String,
}

pub(crate) fn run(arguments: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    let schema = match arguments.name.as_str() {
        "manifest" => Manifest::schema(),
        "policy" => InstancePolicy::schema(),
        name => {
            let words = vec!["schema".to_owned(), "--".to_owned(), name.to_owned()];
            return adapter::run(context, MODULE, words);
        }
    };
    context.output.result(&schema, |out| writeln!(out, "{schema:#}"))?;
    Ok(Exit::Done)
}
