//! Finds the Ray head on this machine, or starts one.

use dagster_ray_jobs::{DASHBOARD_PORT, RayJobs, Version};
use dagster_ray_sdk::{
    Error,
    bindings::processes::{Command, State},
    clock::Clock,
    info,
    polling::Interval,
};

use crate::programs::Programs;

/// The distance between the default ports of Ray Client and the dashboard.
const CLIENT_PORT_OFFSET: u16 = 10_001 - DASHBOARD_PORT;

/// The configuration of a head.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    /// The port of the dashboard.
    pub(crate) port: u16,
    /// How long the head runs on when nothing uses it.
    pub(crate) idle_ms: u64,
}

/// Returns the name of a head among the host's programs. The name contains the port, because a user can have
/// heads for several configurations.
pub(crate) fn name(port: u16) -> String {
    format!("head-{port}")
}

/// How long to wait for a started head. It takes 4 s on an idle machine.
const START_TIMEOUT_MS: u64 = 120_000;
const FIRST_WAIT_MS: u64 = 100;
const MAX_WAIT_MS: u64 = 500;
const REPORT_MS: u64 = 5_000;
/// How long to wait, after our `ray start` has ended, for another head that took the port to respond.
const RIVAL_MS: u64 = 5_000;
const STOP_GRACE_MS: u64 = 5_000;
const OUTPUT_LINES: usize = 20;

/// Returns when a head responds on the port; starts one if necessary. A head that this backend started, in any
/// process of the user, is used by this process from then on.
///
/// A job can be submitted at once: Ray holds the request until it has an agent.
pub(crate) fn ensure(
    ray: &impl RayJobs,
    programs: &impl Programs,
    clock: &impl Clock,
    head: Head,
) -> Result<(), Error> {
    let port = head.port;
    if matches!(programs.state(&name(port)), State::Running(_)) {
        // Also if it responds: without this process as a user, it could stop.
        return start(ray, programs, clock, head).map(|_| ());
    }
    if probe(ray, port)?.is_some() {
        return Ok(());
    }
    info!("no Ray head responds at 127.0.0.1:{port}; starting one");
    let (pid, version) = start(ray, programs, clock, head)?;
    if !is_other_session(&version, pid) {
        return Ok(());
    }
    // Another head took the dashboard's port. Ray then keeps our head running without a dashboard, which
    // makes it useless.
    info!("another process started a head at 127.0.0.1:{port} first; using it");
    programs.stop(&name(port), STOP_GRACE_MS)?;
    if probe(ray, port)?.is_none() {
        // The program was a wrapper: its process id differs from the one in the session's name.
        start(ray, programs, clock, head)?;
    }
    Ok(())
}

/// Returns the version of the Ray that responds on the port, or `None` if nothing responds.
fn probe(ray: &impl RayJobs, port: u16) -> Result<Option<Version>, Error> {
    match ray.version() {
        Ok(version) => Ok(Some(version)),
        Err(Error::Unavailable(_)) => Ok(None),
        // Ray requires a token. The submission reports whether the host has the right one.
        Err(Error::Backend(api)) if matches!(api.status, 401 | 403) => Ok(Some(Version::default())),
        Err(Error::Backend(api)) => Err(Error::invalid(
            "dashboard_port",
            &format!("port {port} is used by a service that is not Ray ({})", api.message),
            Some("write a free port, or the port of Ray's dashboard"),
        )),
        Err(error) => Err(error),
    }
}

/// Joins or starts the head and waits until a head responds. Returns the process id of `ray start`, and the
/// version.
fn start(
    ray: &impl RayJobs,
    programs: &impl Programs,
    clock: &impl Clock,
    Head { port, idle_ms }: Head,
) -> Result<(u32, Version), Error> {
    let pid = programs.share(&name(port), &command(port), idle_ms)?;
    let started = clock.now_ms();
    let mut interval = Interval::new(FIRST_WAIT_MS, MAX_WAIT_MS);
    let mut next_report = started + REPORT_MS;
    let mut ended_at = None;
    loop {
        if let Some(version) = probe(ray, port)? {
            info!(
                "Ray {} responds at 127.0.0.1:{port} after {} ms",
                version.ray_version,
                clock.now_ms() - started
            );
            return Ok((pid, version));
        }
        let now = clock.now_ms();
        if let State::Ended(outcome) = programs.state(&name(port))
            && now.saturating_sub(*ended_at.get_or_insert(now)) >= RIVAL_MS
        {
            let how = outcome
                .exit_code
                .map_or("was ended by a signal".to_owned(), |code| format!("exited with code {code}"));
            return Err(Error::Other(format!(
                "Ray could not be started on port {port}: `ray start` {how}; its last output:\n{}",
                last_lines(&outcome.output)
            )));
        }
        if now.saturating_sub(started) >= START_TIMEOUT_MS {
            return Err(Error::unavailable(
                format!(
                    "Ray was started, but does not respond at 127.0.0.1:{port} after {} s",
                    START_TIMEOUT_MS / 1000
                ),
                false,
            ));
        }
        if now >= next_report {
            next_report = now + REPORT_MS;
            info!("waiting for Ray to start on port {port}: {} s so far", (now - started) / 1000);
        }
        interval.sleep(clock);
    }
}

/// Returns whether the session belongs to another process than the head of this backend.
///
/// The name of a Ray session ends with the process id of the program that started it.
fn is_other_session(version: &Version, started: u32) -> bool {
    let session =
        version.session_name.as_deref().and_then(|name| name.rsplit('_').next()?.parse::<u32>().ok());
    session.is_some_and(|session| session != started)
}

fn command(port: u16) -> Command {
    let client_port = port.checked_add(CLIENT_PORT_OFFSET).unwrap_or(port - CLIENT_PORT_OFFSET);
    let fixed = [
        "start",
        "--head",
        // In the foreground, so that the host sees when Ray ends, and can stop it.
        "--block",
        "--disable-usage-stats",
        "--include-dashboard=true",
        "--dashboard-host=127.0.0.1",
        "--node-ip-address=127.0.0.1",
        // Any free port for the other services: several heads can then run on one machine, and the
        // dashboard's port cannot be in the range of the worker ports.
        "--port=0",
        "--min-worker-port=0",
        "--max-worker-port=0",
        "--dashboard-agent-listen-port=0",
    ];
    let chosen = [format!("--dashboard-port={port}"), format!("--ray-client-server-port={client_port}")];
    Command {
        program: "ray".to_owned(),
        args: fixed.into_iter().map(str::to_owned).chain(chosen).collect(),
        // Otherwise Ray waits 30 s on shutdown to drain replicas of Ray Serve.
        env: vec![("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S".to_owned(), "0".to_owned())],
    }
}

fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.trim_end().lines().collect();
    lines[lines.len().saturating_sub(OUTPUT_LINES)..].join("\n")
}

#[cfg(test)]
mod tests;
