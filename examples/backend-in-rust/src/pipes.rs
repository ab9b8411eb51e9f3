//! The exported interface `pipes`: scripts that report through Dagster Pipes.

use crate::Backend;
use crate::bindings::dagster_ray::host::model::{Error, JobRef, JobState, JobStatus};
use crate::bindings::dagster_ray::host::sink::{Channel, Listener};
use crate::bindings::exports::dagster_ray::backend::pipes::{Followed, Guest, Position, ScriptSpec};
use crate::http::{More, Response};
use crate::service::{Service, sleep};
use crate::{job, options};

/// How long to wait for output before checking whether the caller has canceled.
const QUIET_MS: u64 = 500;
const POLL_MS: u64 = 500;
/// How often in a row the stream may break without another complete line.
const BREAKS: u32 = 5;

impl Guest for Backend {
    fn plan(script: ScriptSpec) -> Result<JobRef, Error> {
        options::of_script(&script.options)?;
        Ok(Service::configured()?.reference(job::of_script(&script.run_id, &script.nonce)))
    }

    fn launch(script: ScriptSpec, listener: &Listener) -> Result<JobRef, Error> {
        let service = Service::configured()?;
        let options = options::of_script(&script.options)?;
        let spec = job::Spec::of_script(options, &script.bootstrap, &script.labels, &script.deployment);
        if listener.cancelled() {
            return Err(Error::Cancelled);
        }
        let started = service.start(&job::of_script(&script.run_id, &script.nonce), &spec)?;
        Ok(service.reference(started.id))
    }

    fn follow(job: JobRef, from: Option<Position>, listener: &Listener) -> Result<Followed, Error> {
        let service = Service::configured()?;
        let from = match from.as_deref().map(str::parse) {
            None => 0,
            Some(Ok(from)) => from,
            Some(Err(_)) => {
                return Err(options::invalid("from", "is not a position", "pass what `follow` returned"));
            }
        };
        let mut lines = Lines { position: from, incomplete: Vec::new() };
        let reached = |lines: &Lines, complete| Followed { position: lines.position.to_string(), complete };
        let mut fruitless = 0;
        while let Some(output) = service.output(&job.submission_id, lines.position)? {
            let before = lines.position;
            if forward(&output, &mut lines, listener)? {
                break;
            }
            // The service sends an incomplete line again.
            lines.incomplete.clear();
            fruitless = if lines.position > before { 0 } else { fruitless + 1 };
            if fruitless > BREAKS {
                // The caller continues at this position.
                return Ok(reached(&lines, false));
            }
            sleep(POLL_MS);
        }
        lines.end(listener);
        Ok(reached(&lines, true))
    }

    fn wait(job: JobRef, listener: &Listener) -> Result<JobStatus, Error> {
        let service = Service::configured()?;
        loop {
            let status = service.look_at(&job.submission_id)?;
            if status.state != JobState::Running {
                return Ok(status);
            }
            if listener.cancelled() {
                return Err(Error::Cancelled);
            }
            sleep(POLL_MS);
        }
    }

    fn terminate(job: JobRef, listener: &Listener) -> Result<JobStatus, Error> {
        let service = Service::configured()?;
        let ended = service.stop(std::slice::from_ref(&job.submission_id), listener)?.pop();
        ended.ok_or_else(|| Error::NotFound(job.submission_id))
    }
}

/// Forwards output until it ends or the connection breaks. Returns whether it ended.
fn forward(output: &Response, lines: &mut Lines, listener: &Listener) -> Result<bool, Error> {
    loop {
        if listener.cancelled() {
            return Err(Error::Cancelled);
        }
        match output.next(QUIET_MS) {
            Ok(More::Bytes(bytes)) => lines.add(&bytes, listener),
            Ok(More::Quiet) => {}
            Ok(More::End) => return Ok(true),
            Err(_) => return Ok(false),
        }
    }
}

/// Splits output into lines. The position counts complete lines only.
struct Lines {
    position: u64,
    incomplete: Vec<u8>,
}

impl Lines {
    fn add(&mut self, bytes: &[u8], listener: &Listener) {
        let complete = self.complete(bytes);
        if !complete.is_empty() {
            listener.output(Channel::Stdout, &complete);
        }
    }

    fn complete(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.incomplete.extend(bytes);
        let Some(last) = self.incomplete.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let rest = self.incomplete.split_off(last + 1);
        let mut ready = std::mem::replace(&mut self.incomplete, rest);
        self.position += ready.len() as u64;
        ready.pop();
        ready.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    }

    /// Forwards the last line, which has no line break.
    fn end(&mut self, listener: &Listener) {
        if !self.incomplete.is_empty() {
            self.position += self.incomplete.len() as u64;
            listener.output(Channel::Stdout, &[std::mem::take(&mut self.incomplete)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_lines_are_forwarded_and_counted() {
        let mut lines = Lines { position: 10, incomplete: Vec::new() };
        assert!(lines.complete(b"on").is_empty());
        assert_eq!(lines.position, 10);
        assert_eq!(lines.complete(b"e\n\ntw"), [b"one".to_vec(), Vec::new()]);
        assert_eq!((lines.position, lines.incomplete.as_slice()), (15, b"tw".as_slice()));
    }
}
