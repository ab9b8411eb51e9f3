//! The exported interface `pipes`: scripts that report through Dagster Pipes.

use std::io::Read;

use dagster_ray_sdk::{
    Error,
    clock::{Clock, WasiClock},
    http::Body,
    lines::Lines,
    model::{JobRef, JobStatus},
    options::read_document,
    pipes::{Followed, Guest, Position, ScriptSpec},
    reports::{Channel, Listener},
};

use crate::{Backend, job, options::ScriptOptions, service::Service};

/// How long to wait for output before checking whether the caller has canceled.
const QUIET_MS: u64 = 500;
const POLL_MS: u64 = 500;
const PIECE: usize = 64 << 10;
/// How often in a row the stream may break without another complete line.
const BREAKS: u32 = 5;

impl Guest for Backend {
    fn plan(script: ScriptSpec) -> Result<JobRef, Error> {
        read_document(&script.options, ScriptOptions::read)?;
        Ok(Service::configured()?.reference(job::of_script(&script.run_id, &script.nonce)))
    }

    fn launch(script: ScriptSpec, listener: &Listener) -> Result<JobRef, Error> {
        let service = Service::configured()?;
        let options = read_document(&script.options, ScriptOptions::read)?;
        let spec = job::Spec::of_script(options, &script.bootstrap, &script.labels, &script.deployment);
        if listener.cancelled() {
            return Err(Error::Cancelled);
        }
        let started = service.start(&job::of_script(&script.run_id, &script.nonce), &spec)?;
        Ok(service.reference(started.id))
    }

    fn follow(job: JobRef, from: Option<Position>, listener: &Listener) -> Result<Followed, Error> {
        let service = Service::configured()?;
        let mut position: u64 = from.map_or(Ok(0), |from| {
            let hint = Some("pass what `follow` returned");
            from.parse().map_err(|_| Error::invalid("from", "is not a position", hint))
        })?;
        let mut fruitless = 0;
        while let Some(output) = service.output(&job.submission_id, position)? {
            let before = position;
            if forward(output, &mut position, listener)? {
                break;
            }
            fruitless = if position > before { 0 } else { fruitless + 1 };
            if fruitless > BREAKS {
                // The caller continues at this position.
                return Ok(Followed { position: position.to_string(), complete: false });
            }
            WasiClock.sleep_ms(POLL_MS);
        }
        Ok(Followed { position: position.to_string(), complete: true })
    }

    fn wait(job: JobRef, listener: &Listener) -> Result<JobStatus, Error> {
        let service = Service::configured()?;
        loop {
            let status = service.look_at(&job.submission_id)?;
            if status.ended {
                return Ok(status);
            }
            if listener.cancelled() {
                return Err(Error::Cancelled);
            }
            WasiClock.sleep_ms(POLL_MS);
        }
    }

    fn terminate(job: JobRef, listener: &Listener) -> Result<JobStatus, Error> {
        let service = Service::configured()?;
        let ended = service.stop(std::slice::from_ref(&job.submission_id), listener)?.pop();
        ended.ok_or_else(|| Error::NotFound(job.submission_id))
    }
}

/// Forwards output until it ends or the connection breaks. Returns whether it ended.
///
/// The position counts complete lines only, so that the service sends an incomplete line again.
fn forward(mut output: Body, position: &mut u64, listener: &Listener) -> Result<bool, Error> {
    let mut lines = Lines::default();
    let mut read = *position;
    let mut piece = vec![0; PIECE];
    loop {
        if listener.cancelled() {
            return Err(Error::Cancelled);
        }
        if !output.wait_readable(QUIET_MS) {
            continue;
        }
        match output.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => {
                read += count as u64;
                let complete = lines.push(&piece[..count]);
                if !complete.is_empty() {
                    listener.output(Channel::Stdout, &complete);
                }
                *position = read - lines.waiting();
            }
            Err(_) => return Ok(false),
        }
    }
    if let Some(last) = lines.finish() {
        listener.output(Channel::Stdout, &[last]);
    }
    *position = read;
    Ok(true)
}
