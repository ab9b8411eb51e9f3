//! Calls a component, writes its reports to standard error, and cancels the call on Ctrl-C.

use std::io::Write;
use std::time::Duration;

use anstyle::Style;
use dagster_ray_runtime::{Backend, Call, CallOptions, CallResult, Progress, Report, plain};

use crate::context::Context;
use crate::exit::Interrupted;
use crate::interrupt::POLL_INTERVAL;
use crate::output::{BAD, FAINT, Output, WARNING};

/// Calls `interface.function` with arguments as a JSON object, and waits for its result.
///
/// # Errors
/// If the call fails, or after Ctrl-C, once the component has cleaned up and the call has ended.
pub(crate) fn run(
    context: &Context,
    backend: &Backend,
    export: &str,
    arguments: &str,
    timeout: Option<Duration>,
) -> anyhow::Result<CallResult> {
    let mut call = Call::begin(backend, export, arguments, CallOptions { timeout, ..CallOptions::default() });
    let mut is_cancelled = false;
    loop {
        match call.wait(backend, POLL_INTERVAL) {
            Progress::Report(reported) => report(context.output, reported),
            Progress::Ended(_) if is_cancelled => return Err(Interrupted.into()),
            Progress::Ended(outcome) => return Ok((*outcome)?),
            Progress::Pending => {}
        }
        if context.interrupt.is_raised() && !is_cancelled {
            context
                .output
                .note("stopping after the component has cleaned up; press Ctrl-C again to exit at once");
            call.cancel();
            is_cancelled = true;
        }
    }
}

fn report(output: Output, reported: Report) {
    match reported {
        Report::Log { level: "error", message } => output.log(format_args!("{BAD}error{BAD:#}: {message}")),
        Report::Log { level, message } => {
            let style = match level {
                "warning" => WARNING,
                "debug" => FAINT,
                _ => Style::new(),
            };
            output.note(format_args!("{style}{level}{style:#}: {message}"));
        }
        Report::Progress { message } => output.note(format_args!("{FAINT}{message}{FAINT:#}")),
        Report::Event { event, body } => {
            output.note(format_args!("{FAINT}{}{FAINT:#}: {}", plain(event), plain(body)));
        }
        Report::Output { text, .. } => {
            // Write the script's output unchanged. A closed standard error must not end the call.
            let _ = std::io::stderr().write_all(&text);
        }
    }
}
