//! Backend for a Ray cluster that is already there, reached by address.

use dagster_ray_jobs::JobsClient;
use dagster_ray_sdk::{
    Error,
    clock::WasiClock,
    http::WasiHttp,
    settings::{Settings, WasiSettings},
};
use dagster_ray_submission::backend::Backend;

mod address;

/// The backend for a Ray cluster that is already there.
pub struct Existing;

impl Backend for Existing {
    type Jobs = JobsClient;
    type Clock = WasiClock;

    const NAME: &str = "existing";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &str = "Runs and steps as jobs of a Ray cluster that is already there.";
    const SETTINGS: &[(&str, &str)] = &[(
        address::SETTING,
        "The URL of the cluster's dashboard, such as http://head:8265 or https://ray.example.org.",
    )];

    fn ray() -> Result<(JobsClient, WasiClock), Error> {
        let address = WasiSettings.required(address::SETTING)?;
        Ok((JobsClient::new(address::dashboard(&address)?, WasiHttp, WasiClock)?, WasiClock))
    }
}

dagster_ray_submission::export_backend!(Existing);
