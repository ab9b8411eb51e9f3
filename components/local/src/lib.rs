//! Backend for Ray on this machine: uses a running head, or starts one.

use dagster_ray_jobs::{DASHBOARD_PORT, JobsClient, packages::PackageRules};
use dagster_ray_sdk::{
    Error,
    clock::WasiClock,
    http::WasiHttp,
    retry::Policy,
    settings::{Settings, WasiSettings},
};
use dagster_ray_submission::backend::Backend;

mod head;
mod jobs;
mod programs;

pub use jobs::LeasedJobs;
pub use programs::HostPrograms;

const PORT: &str = "dashboard_port";
const IDLE: &str = "idle_seconds";
/// How long an unused head runs on: longer than a daemon or a web server needs to restart.
const DEFAULT_IDLE_SECONDS: u32 = 60;
/// The maximum of `idle_seconds`, which the host also enforces.
const MAX_IDLE_SECONDS: u32 = 3600;

/// The backend `local`.
pub struct Local;

impl Local {
    fn port() -> Result<u16, Error> {
        let port = WasiSettings.parsed::<u16>(PORT, "a port number between 1 and 65535")?;
        match port.unwrap_or(DASHBOARD_PORT) {
            0 => Err(Error::invalid(
                PORT,
                "must not be 0: other processes could not find the Ray head",
                Some("write a port number such as 8265"),
            )),
            port => Ok(port),
        }
    }

    fn idle_ms() -> Result<u64, Error> {
        let seconds = WasiSettings.parsed::<u32>(IDLE, "a whole number of seconds")?;
        match seconds.unwrap_or(DEFAULT_IDLE_SECONDS) {
            seconds @ 0..=MAX_IDLE_SECONDS => Ok(u64::from(seconds) * 1000),
            seconds => Err(Error::invalid(
                IDLE,
                &format!("{seconds} is more than {MAX_IDLE_SECONDS}"),
                Some("write at most 3600, or start Ray yourself with `ray start --head`"),
            )),
        }
    }

    fn jobs_client(port: u16) -> Result<JobsClient, Error> {
        let jobs = JobsClient::new(&format!("http://127.0.0.1:{port}"), WasiHttp, WasiClock)?;
        Ok(jobs.with_rules(PackageRules::from_settings(&WasiSettings)?))
    }
}

impl Backend for Local {
    type Jobs = LeasedJobs<JobsClient, HostPrograms>;
    type Clock = WasiClock;

    const NAME: &str = "local";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &str =
        "Submits runs and steps as jobs to Ray on this machine, and starts Ray if it is not running.";
    const SETTINGS: &[(&str, &str)] = &[
        (
            PORT,
            "The port of Ray's dashboard on this machine, for a running head or a new one. Default: 8265.",
        ),
        (
            IDLE,
            "How many seconds a head that this backend started runs on when nothing uses it. Default: 60.",
        ),
    ];

    fn client() -> Result<(Self::Jobs, WasiClock), Error> {
        let port = Self::port()?;
        Ok((LeasedJobs::new(Self::jobs_client(port)?, HostPrograms, head::name(port)), WasiClock))
    }

    fn ready_client() -> Result<(Self::Jobs, WasiClock), Error> {
        let (port, idle_ms) = (Self::port()?, Self::idle_ms()?);
        // No retries: an unreachable port means here that a head has to be started.
        let probe = Self::jobs_client(port)?.with_retry(Policy::ONCE);
        head::ensure(&probe, &HostPrograms, &WasiClock, head::Head { port, idle_ms })?;
        Self::client()
    }
}

dagster_ray_submission::export_backend!(Local);
