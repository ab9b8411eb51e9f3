//! Backend for Ray on this machine: uses a running head, or starts one.

use dagster_ray_jobs::{DASHBOARD_PORT, JobsClient};
use dagster_ray_sdk::{
    Error,
    clock::WasiClock,
    http::WasiHttp,
    retry::Policy,
    settings::{Settings, WasiSettings},
};
use dagster_ray_submission::backend::Backend;

mod head;
mod programs;

const PORT: &str = "dashboard_port";

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

    fn jobs_client(port: u16) -> Result<JobsClient, Error> {
        JobsClient::new(&format!("http://127.0.0.1:{port}"), WasiHttp, WasiClock)
    }
}

impl Backend for Local {
    type Jobs = JobsClient;
    type Clock = WasiClock;

    const NAME: &str = "local";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &str =
        "Submits runs and steps as jobs to Ray on this machine, and starts Ray if it is not running.";
    const SETTINGS: &[(&str, &str)] = &[(
        PORT,
        "The port of Ray's dashboard on this machine, for a running head or a new one. Default: 8265.",
    )];

    fn client() -> Result<(JobsClient, WasiClock), Error> {
        Ok((Self::jobs_client(Self::port()?)?, WasiClock))
    }

    fn ready_client() -> Result<(JobsClient, WasiClock), Error> {
        let port = Self::port()?;
        // No retries: an unreachable port means here that a head has to be started.
        let probe = Self::jobs_client(port)?.with_retry(Policy::ONCE);
        head::ensure(&probe, &programs::HostPrograms, &WasiClock, port)?;
        Ok((Self::jobs_client(port)?, WasiClock))
    }
}

dagster_ray_submission::export_backend!(Local);
