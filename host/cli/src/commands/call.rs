//! `dagster-ray call`: calls one function of a component, as Dagster does.

use std::io::Read;
use std::time::Duration;

use anyhow::Context as _;
use dagster_ray_runtime::plain;
use serde_json::Value;

use crate::component::{self, COMPONENT_HELP};
use crate::component_call;
use crate::connection::Connection;
use crate::context::Context;
use crate::exit::{Exit, Usage};
use crate::output::escaped;

/// Call one function of a component, with the permissions that it has in Dagster
///
/// The result is printed on standard output as JSON, a string without quotes. Log lines and progress
/// of the component are printed on standard error.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dagster-ray call kuberay describe.describe
  dagster-ray call existing launcher.plan @run.json --address http://ray-head:8265
  dagster-ray call ./mine.wasm launcher.launch @run.json --setting voice=test --timeout 30")]
pub(crate) struct Arguments {
    #[arg(help = COMPONENT_HELP)]
    component: String,
    /// The function to call, such as launcher.check
    #[arg(value_name = "INTERFACE.FUNCTION")]
    export: String,
    /// The parameters by name as a JSON object; @FILE reads a file, - reads standard input
    #[arg(default_value = "{}", hide_default_value = true)]
    arguments: String,
    /// Stop the call after this many seconds. The component's own limit also applies
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) fn run(arguments: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    if !arguments.export.contains('.') {
        let hint = format!(
            "{:?} is not a function: write interface.function, such as launcher.check; `dagster-ray inspect {}` lists the interfaces",
            arguments.export, arguments.component
        );
        return Err(Usage(hint).into());
    }
    let parameters = parameters(&arguments.arguments)?;
    let found = component::find(context, &arguments.component)?;
    let backend = arguments.connection.backend(context, found)?;
    let answer =
        component_call::run(context, &backend, &arguments.export, &parameters, arguments.timeout)?.json;
    context.output.result(&answer, |out| match &answer {
        Value::String(text) => writeln!(out, "{}", plain(text.clone())),
        other => writeln!(out, "{}", escaped(&format!("{other:#}"))),
    })?;
    Ok(Exit::Done)
}

/// Reads the parameters from the argument, a file or standard input.
pub(crate) fn parameters(argument: &str) -> anyhow::Result<String> {
    let (source, text) = match argument {
        "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
            ("standard input", text)
        }
        _ => match argument.strip_prefix('@') {
            Some(file) => {
                let text = std::fs::read_to_string(file).with_context(|| format!("{file} cannot be read"))?;
                (file, text)
            }
            None => ("the argument", argument.to_owned()),
        },
    };
    match serde_json::from_str::<Value>(&text) {
        Ok(Value::Object(_)) => Ok(text),
        Ok(_) => Err(Usage(format!(
            "{source} is not a JSON object: write the parameters by name, such as '{{\"runs\": []}}'"
        ))
        .into()),
        Err(error) => Err(Usage(format!("{source} is not JSON: {error}")).into()),
    }
}

/// Parses a duration in seconds.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "write a number of seconds, such as 30".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
