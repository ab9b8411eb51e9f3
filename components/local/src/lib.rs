//! Backend for Ray on this machine: uses the head that runs, or starts one.

use dagster_ray_jobs::JobsClient;
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

/// The backend for Ray on this machine.
pub struct Local;

impl Local {
    fn port() -> Result<u16, Error> {
        let port = WasiSettings.parsed::<u16>(PORT, "a port number between 1 and 65535")?;
        match port.unwrap_or(head::DASHBOARD_PORT) {
            0 => Err(Error::invalid(
                PORT,
                "is 0, under which nobody finds the head",
                Some("write a port number such as 8265"),
            )),
            port => Ok(port),
        }
    }

    fn client(port: u16) -> Result<JobsClient, Error> {
        JobsClient::new(&format!("http://127.0.0.1:{port}"), WasiHttp, WasiClock)
    }
}

impl Backend for Local {
    type Jobs = JobsClient;
    type Clock = WasiClock;

    const NAME: &str = "local";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &str =
        "Runs and steps as jobs of Ray on this machine, which is started where it does not run.";
    const SETTINGS: &[(&str, &str)] = &[(
        PORT,
        "The port of Ray's dashboard on this machine, where a head runs or is to be started. Default: 8265.",
    )];

    fn ray() -> Result<(JobsClient, WasiClock), Error> {
        Ok((Self::client(Self::port()?)?, WasiClock))
    }

    fn ray_to_submit_to() -> Result<(JobsClient, WasiClock), Error> {
        let port = Self::port()?;
        // That nobody answers is what one look finds out here, and no failure to wait out.
        let probe = Self::client(port)?.with_retry(Policy::ONCE);
        head::ensure(&probe, &programs::HostPrograms, &WasiClock, port)?;
        Ok((Self::client(port)?, WasiClock))
    }
}

dagster_ray_submission::export_backend!(Local);
