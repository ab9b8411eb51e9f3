//! `dagster-ray components`: lists the components on this machine.

use std::path::Path;

use dagster_ray_registry::Store;
use dagster_ray_runtime::{Backend, BackendOptions, Host, Inspection, plain};
use serde::Serialize;

use crate::component_call;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{short, size, table};

/// List the built-in and the pulled components
#[derive(clap::Args)]
#[command(after_help = "\
A component reports its version when it runs, so the version is shown after compilation.

Examples:
  dagster-ray components
  dagster-ray components --compile    # in the build of a container image, before the first run
  dagster-ray components --json | jq -r '.[].digest'")]
pub(crate) struct Arguments {
    /// Compile the components that are not compiled yet
    #[arg(long)]
    compile: bool,
}

#[derive(Serialize)]
struct Row {
    /// The value for the option `backend`.
    backend: String,
    source: &'static str,
    version: Option<String>,
    compiled: bool,
    #[serde(flatten)]
    inspection: Inspection,
}

pub(crate) fn run(arguments: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    let host = context.host()?;
    let progress = context.output.progress("inspecting components");
    let mut rows = Vec::new();
    let mut exit = Exit::Done;
    for (backend, source, path) in available_components(&context.installation.components) {
        progress.set(format!("inspecting {backend}"));
        match row(context, &host, arguments.compile, (backend, source), &path) {
            Ok(row) => rows.push(row),
            // Continue with the other components.
            Err(error) => {
                context.output.warn(format_args!("{error:#}"));
                exit = Exit::Load;
            }
        }
    }
    drop(progress);
    context.output.result(&rows, |out| {
        let lines = rows.iter().map(|row| {
            [
                row.backend.clone(),
                row.version.clone().unwrap_or_else(|| "-".into()),
                row.inspection.exports.join(" "),
                size(row.inspection.size as u64),
                if row.compiled { "yes" } else { "no" }.to_owned(),
                short(&row.inspection.digest).to_owned(),
            ]
        });
        writeln!(out, "{}", table(["BACKEND", "VERSION", "EXPORTS", "SIZE", "COMPILED", "DIGEST"], lines))
    })?;
    Ok(exit)
}

fn available_components(built_in: &Path) -> Vec<(String, &'static str, std::path::PathBuf)> {
    let mut all: Vec<_> = dagster_ray_registry::built_in(built_in)
        .into_iter()
        .map(|name| {
            let path = built_in.join(format!("{name}.wasm"));
            (name, "built-in", path)
        })
        .collect();
    let cache = dagster_ray_runtime::cache_directory();
    for (_, pulled) in cache.iter().flat_map(|cache| Store::new(cache).list()) {
        if let Some(pulled) = pulled {
            all.push((pulled.reference.to_string(), "pulled", pulled.component.path));
        }
    }
    all
}

fn row(
    context: &Context,
    host: &Host,
    compile: bool,
    (backend, source): (String, &'static str),
    path: &Path,
) -> anyhow::Result<Row> {
    let trusted_keys = context.trusted_keys()?;
    let inspection = dagster_ray_runtime::inspect(path, trusted_keys.as_ref())?;
    let options = BackendOptions { path: path.to_owned(), trusted_keys, ..BackendOptions::default() };
    let compiled = compile || host.is_compiled(path, &inspection.digest);
    let version = if compiled && inspection.exports.contains(&"describe") {
        let component = Backend::new(host.clone(), options);
        let card = component_call::run(context, &component, "describe.describe", "{}", None)?.json;
        card["version"].as_str().map(|version| plain(version.to_owned()))
    } else {
        if compile {
            Backend::new(host.clone(), options).describe()?;
        }
        None
    };
    Ok(Row { backend, source, version, compiled, inspection })
}
