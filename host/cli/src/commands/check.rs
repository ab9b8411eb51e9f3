//! `dagster-ray check`: runs the conformance tests on a component.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use dagster_ray_conformance::{Finding, Outcome, Report, Subject, interfaces};
use dagster_ray_recording::{Cassette, CassetteMode, Player};
use dagster_ray_runtime::{Authority, inspect};
use serde_json::Value;

use crate::cassette;
use crate::component::{self, COMPONENT_HELP};
use crate::connection::Connection;
use crate::context::Context;
use crate::exit::{Exit, Interrupted, Usage};
use crate::output::{BAD, FAINT, HEADING};

/// Check a component against the rules that every backend must satisfy
///
/// Without an address, a kubeconfig or a cassette, only the rules that need no service are checked,
/// and no request is sent. With one, test runs, steps and scripts are launched and stopped again.
/// Exit code 1 means that a rule failed, or was blocked because a required setting or option is
/// missing.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dagster-ray check ./mine.wasm
  dagster-ray check existing --address http://127.0.0.1:8265
  dagster-ray check existing --address http://127.0.0.1:8265 --record existing.json
  dagster-ray check existing --cassette existing.json
  dagster-ray check kuberay --kube-context test --options options.json --only cluster

options.json contains the base options by interface:
  {\"cluster\": {\"ray_cluster\": {\"spec\": …}}, \"launcher\": {\"namespace\": \"test\"}}")]
pub(crate) struct Arguments {
    #[arg(help = COMPONENT_HELP)]
    component: String,
    /// Answer requests from this cassette, without a network
    #[arg(long, value_name = "FILE", conflicts_with = "record")]
    cassette: Option<PathBuf>,
    /// Record requests and responses into this cassette
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// A JSON file with the base options by interface
    #[arg(long, value_name = "FILE")]
    options: Option<PathBuf>,
    /// Check only the rules of this interface; may be given several times
    #[arg(long, value_name = "INTERFACE", value_parser = PossibleValuesParser::new(interfaces()))]
    only: Vec<String>,
    /// Also check the rules that need a service, although no option names one
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) fn run(arguments: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    let found = component::find(context, &arguments.component)?;
    let uses_http = inspect(&found.path, None)?.imports.iter().any(|import| import.starts_with("wasi:http/"));
    let mut subject = Subject {
        backend: arguments.connection.options(context, found)?,
        has_service: arguments.live || arguments.connection.names_a_service() || !uses_http,
        only: arguments.only,
        ..Subject::default()
    };
    if let Some(file) = &arguments.options {
        subject.options = options(file)?;
    }
    if let Some(file) = &arguments.cassette {
        replay(&mut subject, file)?;
    }
    let recording = match &arguments.record {
        Some(file) => {
            let directory = cassette::directory()?;
            let mode = CassetteMode::Record(directory.path().to_owned());
            subject.interceptor = Some(dagster_ray_recording::open(&mode)?);
            Some((directory, file))
        }
        None => None,
    };
    let interrupt = context.interrupt.clone();
    subject.stop = Some(Arc::new(move || interrupt.is_raised()));

    let progress = context.output.progress(format!("checking {}", arguments.component));
    let report = dagster_ray_conformance::check(&subject, &mut |finding: &Finding| {
        progress.set(format!("{}: {}", finding.interface, finding.rule));
    })?;
    drop(progress);
    if let Some((directory, file)) = recording {
        let count = cassette::merge(directory.path(), file)?;
        context.output.note(format_args!("recorded {count} requests in {}", file.display()));
    }
    if context.interrupt.is_raised() {
        return Err(Interrupted.into());
    }
    context.output.result(&report, |out| write!(out, "{}", Table(&report)))?;
    Ok(if report.conforms() { Exit::Done } else { Exit::Failed })
}

fn options(
    file: &Path,
) -> anyhow::Result<std::collections::BTreeMap<String, serde_json::Map<String, Value>>> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("--options {} cannot be read", file.display()))?;
    serde_json::from_str(&text).map_err(|error| {
        let hint = "write an object of options for each interface, such as {\"launcher\": {\"num_cpus\": 1}}";
        Usage(format!("--options {}: {error}; {hint}", file.display())).into()
    })
}

/// Configures replay from a cassette. Without an address, the recorded one is used.
fn replay(subject: &mut Subject, file: &Path) -> anyhow::Result<()> {
    let recorded = Cassette::read(file)?;
    subject.has_service = true;
    let origin = recorded.exchanges.iter().find_map(|exchange| {
        let (scheme, rest) = exchange.request.url.split_once("://")?;
        let authority = rest.split('/').next()?;
        let is_ray = authority != "kubernetes.internal" && !authority.contains(".svc");
        is_ray.then(|| format!("{scheme}://{authority}"))
    });
    subject.is_replayed = true;
    subject.interceptor = Some(Arc::new(Player::new(recorded)));
    if let Some(origin) = origin
        && subject.backend.authorities.is_empty()
    {
        let options = serde_json::from_value(serde_json::json!({"url": origin}))?;
        subject.backend.authorities.push(Authority::new(options)?);
        subject.backend.settings.entry("address".to_owned()).or_insert(origin);
    }
    Ok(())
}

/// The report as text: a line for each rule, and details below the rules that failed.
struct Table<'a>(&'a Report);

impl std::fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut interface = "";
        for finding in &self.0.findings {
            let is_offered = self.0.exports.contains(&finding.interface);
            if finding.interface != interface {
                interface = finding.interface;
                writeln!(f, "{HEADING}{interface}{HEADING:#}")?;
                if !is_offered {
                    writeln!(f, "  {FAINT}n/a      it does not export {interface}{FAINT:#}")?;
                }
            }
            if !is_offered {
                continue;
            }
            match &finding.outcome {
                Outcome::Passed => writeln!(f, "  passed   {}", finding.rule)?,
                Outcome::Differs { expected, actual } => {
                    writeln!(f, "  {BAD}differs{BAD:#}  {}", finding.rule)?;
                    writeln!(f, "             expected: {expected}")?;
                    writeln!(f, "             actual:   {actual}")?;
                    writeln!(f, "             why:      {}", finding.reason)?;
                }
                Outcome::NotApplicable { reason } => {
                    writeln!(f, "  {FAINT}n/a      {} ({reason}){FAINT:#}", finding.rule)?;
                }
                Outcome::Skipped { reason } => {
                    writeln!(f, "  {FAINT}skipped  {} ({reason}){FAINT:#}", finding.rule)?;
                }
                Outcome::Blocked { reason } => {
                    writeln!(f, "  {BAD}blocked{BAD:#}  {} ({reason})", finding.rule)?;
                }
            }
        }
        let [passed, differ, not_applicable, skipped, blocked] = self.0.counts();
        let component = &self.0.component;
        writeln!(
            f,
            "{component}: {passed} passed, {differ} differ, {not_applicable} do not apply, {skipped} skipped, {blocked} blocked"
        )
    }
}
