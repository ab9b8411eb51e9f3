//! `dagster-ray explain`: describes keys of the configuration.

use crate::adapter;
use crate::context::Context;
use crate::exit::Exit;

/// The module of the Python package that knows the configuration.
const MODULE: &str = "dagster_ray.reference";

/// Explain a key of the configuration: its type, default, meaning and environment variables
///
/// A key is a topic with the names of fields, such as `executor.isolation`. Without a key, the topics are listed.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dagster-ray explain
  dagster-ray explain launcher
  dagster-ray explain kuberay.cluster_timeout_seconds
  dagster-ray explain manifest.grants.http
  dagster-ray explain --markdown > configuration.md")]
pub(crate) struct Arguments {
    /// The key, such as launcher.address
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// Print everything as one page of Markdown
    #[arg(long, conflicts_with = "key")]
    markdown: bool,
}

pub(crate) fn run(arguments: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    let mut words = vec!["explain".to_owned()];
    if arguments.markdown {
        words.push("--markdown".to_owned());
    }
    if let Some(key) = arguments.key {
        words.extend(["--".to_owned(), key]);
    }
    adapter::run(context, MODULE, words)
}
