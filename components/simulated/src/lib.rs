//! Backend for users' tests: Ray jobs as local processes, on a virtual clock, with injected faults.
//!
//! It uses the rules and the Jobs API client of the real backends; only the Ray head is simulated.
//!
//! - [`head`]: the Jobs REST API, over [`jobs`], [`job_record`] and [`log`].
//! - [`faults`]: the injected faults.
//! - [`simulation`]: the state that these parts share, and the clock.
//! - [`keys`], [`machine`]: host imports, behind traits.
//! - [`ray`], [`clusters`]: the Ray client and the clusters that implement the contract.

pub mod clusters;
pub mod faults;
pub mod head;
pub mod job_record;
pub mod jobs;
pub mod keys;
mod log;
pub mod machine;
mod options;
pub mod ray;
mod records;
mod selector;
pub mod simulation;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use dagster_ray_sdk::{
    Error,
    bindings::{
        cluster::{
            self, ClusterInfo, ClusterRef, ClusterSpec, Creation, EndpointSet, Expirations, Expiry, Query,
        },
        describe::{Description, Role},
        executor::StepSpec,
        launcher::RunSpec,
        pipes::ScriptSpec,
        reconciler::{Leftover, Reconciliation},
        reports::Listener,
    },
    clock::Clock,
    progress::ProgressListener,
    settings::{Settings, WasiSettings},
};
use dagster_ray_submission::{
    backend::{self, Backend},
    options::cluster::ClusterOptions,
    reconcile,
};

use crate::{
    clusters::Clusters, keys::HostStore, machine::HostMachine, ray::SimulatedRay, simulation::Simulation,
};

/// The setting that names the directory of the simulation.
const DIRECTORY: &str = "simulation";

/// The backend `simulated`.
pub struct Simulated;

type Host = Simulation<HostStore, HostMachine>;

fn simulation() -> Result<Host, Error> {
    let directory = WasiSettings.required(DIRECTORY)?;
    let keys = HostStore::open()?;
    let faults = faults::from_host(&keys)?;
    Ok(Simulation::new(keys, HostMachine::open(&directory)?, faults))
}

impl Backend for Simulated {
    type Jobs = SimulatedRay<HostStore, HostMachine>;
    type Clock = Host;

    const NAME: &str = "simulated";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &str =
        "Executes runs, steps and scripts as local processes, for tests, with injected faults.";
    // Tests read the records of ended steps.
    const DELETES_ENDED_JOBS: bool = false;
    const SETTINGS: &[(&str, &str)] =
        &[(DIRECTORY, "The directory of the simulation. Processes with the same directory share it.")];

    fn client() -> Result<(Self::Jobs, Self::Clock), Error> {
        let simulation = simulation()?;
        Ok((SimulatedRay::new(&simulation)?, simulation))
    }

    fn run(run: RunSpec) -> Result<RunSpec, Error> {
        Ok(options::run(run))
    }

    fn step(step: StepSpec) -> Result<StepSpec, Error> {
        Ok(options::step(step))
    }

    fn script(script: ScriptSpec) -> Result<ScriptSpec, Error> {
        options::script(script)
    }

    fn reconcile(rule: &Reconciliation, listener: &impl ProgressListener) -> Result<Vec<Leftover>, Error> {
        let (jobs, clock) = Self::client()?;
        let now_s = clock.now_ms() / 1_000;
        let mut leftovers = reconcile::jobs::reconcile(&jobs, &clock, rule, now_s, listener)?;
        leftovers.extend(Clusters::new(clock).reconcile(rule)?);
        Ok(leftovers)
    }

    fn describe() -> Description {
        let mut description = backend::description::<Self>();
        let text = format!("The injected faults, as JSON with this schema: {}", faults::SCHEMA);
        description.options.push((Role::Cluster, ClusterOptions::SCHEMA.to_owned()));
        description.settings.push((faults::FAULTS.to_owned(), text));
        description
    }
}

fn host_clusters() -> Result<Clusters<HostStore, HostMachine>, Error> {
    simulation().map(Clusters::new)
}

impl cluster::Guest for Simulated {
    fn create(spec: ClusterSpec) -> Result<Creation, Error> {
        host_clusters()?.create(&spec)
    }

    fn wait(cluster: ClusterRef, timeout_ms: u64, listener: &Listener) -> Result<EndpointSet, Error> {
        host_clusters()?.wait(&cluster, timeout_ms, listener)
    }

    fn get(cluster: ClusterRef) -> Result<ClusterInfo, Error> {
        host_clusters()?.get(&cluster)
    }

    fn list(query: Query) -> Result<Vec<ClusterInfo>, Error> {
        host_clusters()?.list(&query)
    }

    fn update(cluster: ClusterRef, patch: String) -> Result<ClusterInfo, Error> {
        host_clusters()?.update(&cluster, &patch)
    }

    fn renew(cluster: ClusterRef, holder: String) -> Result<(), Error> {
        host_clusters()?.renew(&cluster, &holder)
    }

    fn release(cluster: ClusterRef, holder: String) -> Result<bool, Error> {
        host_clusters()?.release(&cluster, &holder)
    }

    fn delete(cluster: ClusterRef) -> Result<bool, Error> {
        host_clusters()?.delete(&cluster)
    }

    fn endpoints(cluster: ClusterRef) -> Result<EndpointSet, Error> {
        host_clusters()?.endpoints(&cluster)
    }

    fn expired(rule: Expiry) -> Result<Expirations, Error> {
        host_clusters()?.expired(&rule)
    }
}

dagster_ray_submission::export_backend!(Simulated);
dagster_ray_sdk::export!(Simulated: cluster);
