//! A Ray head on this machine: found, or started.

use dagster_ray_jobs::{RayJobs, Version};
use dagster_ray_sdk::{
    Error,
    bindings::processes::{Command, State},
    clock::Clock,
    info,
};

use crate::programs::Programs;

/// Ray's own port for its dashboard.
pub(crate) const DASHBOARD_PORT: u16 = 8265;

/// How far Ray's own port for Ray Client is from that.
const CLIENT_PORT_OFFSET: u16 = 10_001 - DASHBOARD_PORT;

/// The name of a started head among the host's programs. It carries the port: one process can
/// have a head for each of several configurations.
fn name(port: u16) -> String {
    format!("head-{port}")
}

/// A head takes 4 s on a quiet machine.
const PATIENCE_MS: u64 = 120_000;
const FIRST_WAIT_MS: u64 = 100;
const LONGEST_WAIT_MS: u64 = 500;
const REPORT_MS: u64 = 5_000;
/// Whoever won the race for the port may need so long to answer on it.
const RIVAL_MS: u64 = 5_000;
const STOP_GRACE_MS: u64 = 5_000;
const OUTPUT_LINES: usize = 20;

/// Returns once a head answers on the port. A submission may come at once: Ray itself holds it
/// until it has an agent to pass it on to.
pub(crate) fn ensure(
    ray: &impl RayJobs,
    programs: &impl Programs,
    clock: &impl Clock,
    port: u16,
) -> Result<(), Error> {
    if answers(ray, port)?.is_some() {
        return Ok(());
    }
    info!("no Ray answers at 127.0.0.1:{port}: a head is started");
    let (pid, version) = start(ray, programs, clock, port)?;
    if !is_of_another(&version, pid) {
        return Ok(());
    }
    // Ray goes on without a dashboard where another head took the port meanwhile: nobody can use
    // that one.
    info!("another head was quicker at 127.0.0.1:{port}: it is used");
    programs.stop(&name(port), STOP_GRACE_MS)?;
    if answers(ray, port)?.is_none() {
        // The program was a wrapper, whose process is not the one that names Ray's session.
        start(ray, programs, clock, port)?;
    }
    Ok(())
}

/// What answers on the port, if anything does.
fn answers(ray: &impl RayJobs, port: u16) -> Result<Option<Version>, Error> {
    match ray.version() {
        Ok(version) => Ok(Some(version)),
        Err(Error::Unavailable(_)) => Ok(None),
        // Ray is there and wants a token. Whether the host has the right one, the submission tells.
        Err(Error::Backend(answer)) if matches!(answer.status, 401 | 403) => Ok(Some(Version::default())),
        Err(Error::Backend(answer)) => Err(Error::invalid(
            "dashboard_port",
            &format!("something that is not Ray answers on port {port} ({})", answer.message),
            Some("choose a port that is free, or the one of Ray's dashboard"),
        )),
        Err(error) => Err(error),
    }
}

fn start(
    ray: &impl RayJobs,
    programs: &impl Programs,
    clock: &impl Clock,
    port: u16,
) -> Result<(Option<u32>, Version), Error> {
    let pid = match programs.start(&name(port), &command(port)) {
        Ok(pid) => Some(pid),
        // Another call of this host is starting it just now.
        Err(Error::Conflict(_)) => None,
        Err(error) => return Err(error),
    };
    let started = clock.now_ms();
    let mut wait = FIRST_WAIT_MS;
    let mut next_report = started + REPORT_MS;
    let mut ended_at = None;
    loop {
        if let Some(version) = answers(ray, port)? {
            info!(
                "Ray {} answers at 127.0.0.1:{port} after {} ms",
                version.ray_version,
                clock.now_ms() - started
            );
            return Ok((pid, version));
        }
        let now = clock.now_ms();
        if let State::Ended(outcome) = programs.look(&name(port))
            && now.saturating_sub(*ended_at.get_or_insert(now)) >= RIVAL_MS
        {
            let how =
                outcome.exit_code.map_or("by a signal".to_owned(), |code| format!("with exit code {code}"));
            return Err(Error::Other(format!(
                "Ray could not be started on port {port}: `ray start` ended {how}; its last output:\n{}",
                last_lines(&outcome.output)
            )));
        }
        if now.saturating_sub(started) >= PATIENCE_MS {
            return Err(Error::unavailable(
                format!(
                    "Ray was started, but does not answer at 127.0.0.1:{port} after {} s",
                    PATIENCE_MS / 1000
                ),
                false,
            ));
        }
        if now >= next_report {
            next_report = now + REPORT_MS;
            info!("Ray is starting on port {port}, for {} s now", (now - started) / 1000);
        }
        clock.sleep_ms(wait);
        wait = (wait * 3 / 2).min(LONGEST_WAIT_MS);
    }
}

/// Ray's session carries the process id of the program that started it.
fn is_of_another(version: &Version, started: Option<u32>) -> bool {
    let session =
        version.session_name.as_deref().and_then(|name| name.rsplit('_').next()?.parse::<u32>().ok());
    matches!((session, started), (Some(session), Some(started)) if session != started)
}

fn command(port: u16) -> Command {
    let client_port = port.checked_add(CLIENT_PORT_OFFSET).unwrap_or(port - CLIENT_PORT_OFFSET);
    let fixed = [
        "start",
        "--head",
        // It stays in the foreground, so that its end is seen and its family ends with the host.
        "--block",
        "--disable-usage-stats",
        "--include-dashboard=true",
        "--dashboard-host=127.0.0.1",
        "--node-ip-address=127.0.0.1",
        // What need not be known in advance takes any free port: several heads can then live on
        // one machine, and the dashboard's port cannot lie in the range of the workers'.
        "--port=0",
        "--min-worker-port=0",
        "--max-worker-port=0",
        "--dashboard-agent-listen-port=0",
    ];
    let chosen = [format!("--dashboard-port={port}"), format!("--ray-client-server-port={client_port}")];
    Command {
        program: "ray".to_owned(),
        args: fixed.into_iter().map(str::to_owned).chain(chosen).collect(),
        // Ray would otherwise take 30 s to end, for replicas of Ray Serve that other nodes use.
        env: vec![("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S".to_owned(), "0".to_owned())],
    }
}

fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.trim_end().lines().collect();
    lines[lines.len().saturating_sub(OUTPUT_LINES)..].join("\n")
}

#[cfg(test)]
mod tests;
