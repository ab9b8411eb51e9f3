//! Scripts that report back through Dagster Pipes.

use crate::Backend;
use crate::bindings::dagster_ray::host::model::{Error, JobRef, JobState, JobStatus};
use crate::bindings::dagster_ray::host::sink::{Channel, Listener};
use crate::bindings::exports::dagster_ray::backend::pipes::{Followed, Guest, Position, ScriptSpec};
use crate::http::{More, Response};
use crate::service::{Service, sleep};
use crate::{job, options};

/// How often a quiet script's caller is asked whether he is still there.
const QUIET_MS: u64 = 500;
const LOOK_MS: u64 = 500;
/// How often in a row the stream may break without a whole line more.
const BREAKS: u32 = 5;

impl Guest for Backend {
    fn plan(script: ScriptSpec) -> Result<JobRef, Error> {
        options::of_script(&script.options)?;
        Ok(Service::configured()?.reference(job::of_script(&script.run_id, &script.nonce)))
    }

    fn launch(script: ScriptSpec, listener: &Listener) -> Result<JobRef, Error> {
        let service = Service::configured()?;
        let options = options::of_script(&script.options)?;
        let spec = job::Spec::of_script(options, &script.bootstrap, &script.labels);
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
                return Err(options::invalid("from", "is no position", "pass what `follow` returned"));
            }
        };
        let mut lines = Lines { position: from, begun: Vec::new() };
        let reached = |lines: &Lines, complete| Followed { position: lines.position.to_string(), complete };
        let mut fruitless = 0;
        while let Some(output) = service.output(&job.submission_id, lines.position)? {
            let before = lines.position;
            if pass_on(&output, &mut lines, listener)? {
                break;
            }
            // What came of a line whose end did not come is sent again.
            lines.begun.clear();
            fruitless = if lines.position > before { 0 } else { fruitless + 1 };
            if fruitless > BREAKS {
                // The caller goes on from the position.
                return Ok(reached(&lines, false));
            }
            sleep(LOOK_MS);
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
            sleep(LOOK_MS);
        }
    }

    fn terminate(job: JobRef, listener: &Listener) -> Result<JobStatus, Error> {
        let service = Service::configured()?;
        let ended = service.stop(std::slice::from_ref(&job.submission_id), listener)?.pop();
        ended.ok_or_else(|| Error::NotFound(job.submission_id))
    }
}

/// Passes output on until it ends, or until the connection breaks; and says which.
fn pass_on(output: &Response, lines: &mut Lines, listener: &Listener) -> Result<bool, Error> {
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

/// Output cut into lines. A line counts as passed on once it is whole.
struct Lines {
    position: u64,
    begun: Vec<u8>,
}

impl Lines {
    fn add(&mut self, bytes: &[u8], listener: &Listener) {
        let whole = self.whole(bytes);
        if !whole.is_empty() {
            listener.output(Channel::Stdout, &whole);
        }
    }

    fn whole(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.begun.extend(bytes);
        let Some(last) = self.begun.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let rest = self.begun.split_off(last + 1);
        let mut ready = std::mem::replace(&mut self.begun, rest);
        self.position += ready.len() as u64;
        ready.pop();
        ready.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    }

    /// What is left when all is there is a line without an end.
    fn end(&mut self, listener: &Listener) {
        if !self.begun.is_empty() {
            self.position += self.begun.len() as u64;
            listener.output(Channel::Stdout, &[std::mem::take(&mut self.begun)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_passed_on_whole_and_the_position_is_after_them() {
        let mut lines = Lines { position: 10, begun: Vec::new() };
        assert!(lines.whole(b"on").is_empty());
        assert_eq!(lines.position, 10);
        assert_eq!(lines.whole(b"e\n\ntw"), [b"one".to_vec(), Vec::new()]);
        assert_eq!((lines.position, lines.begun.as_slice()), (15, b"tw".as_slice()));
    }
}
