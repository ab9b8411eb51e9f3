//! Backend for an existing Ray cluster, reached by its address.

use dagster_ray_jobs::{JobsClient, packages::PackageRules};
use dagster_ray_sdk::{
    Error,
    clock::WasiClock,
    http::WasiHttp,
    settings::{Settings, WasiSettings},
};
use dagster_ray_submission::backend::Backend;

mod address;

/// The backend `existing`.
pub struct Existing;

impl Backend for Existing {
    type Jobs = JobsClient;
    type Clock = WasiClock;

    const NAME: &str = "existing";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &str = "Submits runs and steps as jobs to an existing Ray cluster.";
    const SETTINGS: &[(&str, &str)] = &[(
        address::SETTING,
        "The URL of the cluster's dashboard, such as http://head:8265 or https://ray.example.org.",
    )];

    fn client() -> Result<(JobsClient, WasiClock), Error> {
        let address = WasiSettings.required(address::SETTING)?;
        let jobs = JobsClient::new(address::dashboard(&address)?, WasiHttp, WasiClock)?;
        Ok((jobs.with_rules(PackageRules::from_settings(&WasiSettings)?), WasiClock))
    }
}

dagster_ray_submission::export_backend!(Existing);
