//! A call of a component: its reports on standard error, and Ctrl-C passed on to it.

use std::io::Write;
use std::time::Duration;

use anstyle::Style;
use dagster_ray_runtime::{Answer, Backend, Call, CallOptions, Notice, Progress};

use crate::context::Context;
use crate::exit::Interrupted;
use crate::interrupt::LOOK;
use crate::output::{BAD, FAINT, Output, WARNING};

/// Calls `interface.function` with a JSON object, and waits for the end.
///
/// # Errors
/// Where the call fails, or the user gives up; then it was told to clean up and has ended.
pub(crate) fn call(
    context: &Context,
    backend: &Backend,
    export: &str,
    arguments: &str,
    timeout: Option<Duration>,
) -> anyhow::Result<Answer> {
    let mut call = Call::begin(backend, export, arguments, CallOptions { timeout, ..CallOptions::default() });
    let mut told = false;
    loop {
        match call.wait(backend, LOOK) {
            Progress::Notice(notice) => tell(context.output, notice),
            Progress::Ended(_) if told => return Err(Interrupted.into()),
            Progress::Ended(outcome) => return Ok((*outcome)?),
            Progress::Quiet => {}
        }
        if context.interrupt.is_raised() && !told {
            context
                .output
                .note("stopping: the component may clean up first; press Ctrl-C again to leave at once");
            call.cancel();
            told = true;
        }
    }
}

fn tell(output: Output, notice: Notice) {
    match notice {
        Notice::Log { level, message } => {
            let style = match level {
                "error" => BAD,
                "warning" => WARNING,
                "debug" => FAINT,
                _ => Style::new(),
            };
            output.note(format_args!("{style}{level}{style:#}: {message}"));
        }
        Notice::Progress { message } => output.note(format_args!("{FAINT}{message}{FAINT:#}")),
        Notice::Event { event, body } => output.note(format_args!("{FAINT}{event}{FAINT:#}: {body}")),
        Notice::Output { text, .. } => {
            // A script's own bytes, whatever they are. Who closed standard error does not want them.
            let _ = std::io::stderr().write_all(&text);
        }
    }
}
