//! The component's exports.

use dagster_ray_jobs::packages::PackageRules;
use dagster_ray_sdk::{
    bindings::{
        cluster::{
            self, ClusterInfo, ClusterRef, ClusterSpec, Creation, EndpointSet, Expirations, Expiry, Query,
        },
        describe::{self, Description, Role},
        executor::{self, Placement, StepRef, StepSpec},
        launcher::{self, RunPlacement, RunRef, RunSpec, Termination},
        pipes::{self, Followed, Position, ScriptSpec},
        reconciler::{self, Leftover, Reconciliation},
        reports::Listener,
    },
    clock::WasiClock,
    http::WasiHttp,
    model::{Attributes, Error, JobRef, JobStatus},
    settings::{Settings as _, WasiSettings},
};
use dagster_ray_submission::patience::Patience;

use crate::{
    cluster::Clusters,
    executor::Executor,
    kubernetes::Kubernetes,
    launcher::Launcher,
    options::{self, ClusterOptions, DASHBOARD, DEFAULT_NAMESPACE, NAMESPACE},
    pipes::Pipes,
    reconcile,
};

/// The backend that creates Ray clusters and Ray jobs through KubeRay.
pub struct KubeRay;

type HostClusters = Clusters<WasiHttp, WasiClock>;

fn kubernetes() -> Result<Kubernetes<WasiHttp, WasiClock>, Error> {
    let kubernetes = Kubernetes::new(WasiHttp, WasiClock);
    Ok(kubernetes
        .with_patience(Patience::from_settings(&WasiSettings)?)
        .with_package_rules(PackageRules::from_settings(&WasiSettings)?))
}

fn clusters() -> Result<HostClusters, Error> {
    clusters_of(kubernetes()?)
}

/// Returns clusters for a check of runs or steps.
fn checked_clusters() -> Result<HostClusters, Error> {
    clusters_of(kubernetes()?.for_checks())
}

fn clusters_of(kubernetes: Kubernetes<WasiHttp, WasiClock>) -> Result<HostClusters, Error> {
    let namespace = WasiSettings.get(NAMESPACE)?.filter(|namespace| !namespace.trim().is_empty());
    Ok(Clusters::new(kubernetes, namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())))
}

fn pipes() -> Result<Pipes<WasiHttp, WasiClock>, Error> {
    Ok(Pipes::new(clusters()?).with_dashboard(WasiSettings.get(DASHBOARD)?))
}

impl describe::Guest for KubeRay {
    fn describe() -> Description {
        Description {
            name: "kuberay".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Runs, steps, scripts and Ray clusters on Kubernetes, through KubeRay 1.4 or later."
                .to_owned(),
            options: vec![
                (Role::Launcher, options::JOB_SCHEMA.to_owned()),
                (Role::Executor, options::JOB_SCHEMA.to_owned()),
                (Role::Cluster, ClusterOptions::SCHEMA.to_owned()),
                (Role::Pipes, options::SCRIPT_SCHEMA.to_owned()),
            ],
            settings: vec![
                (
                    NAMESPACE.to_owned(),
                    format!(
                        "The default namespace of RayJobs and RayClusters. Defaults to `{DEFAULT_NAMESPACE}`."
                    ),
                ),
                (
                    DASHBOARD.to_owned(),
                    "The URL at which the output of scripts is read. Default: the dashboard's Service."
                        .to_owned(),
                ),
                Patience::described(),
            ]
            .into_iter()
            .chain(PackageRules::described())
            .collect(),
        }
    }
}

impl launcher::Guest for KubeRay {
    fn plan(run: RunSpec) -> Result<RunPlacement, Error> {
        Launcher::new(clusters()?).plan(&run)
    }

    fn launch(run: RunSpec) -> Result<RunRef, Error> {
        Launcher::new(clusters()?).launch(&run)
    }

    fn resume(run: RunSpec) -> Result<RunRef, Error> {
        Launcher::new(clusters()?).launch(&run)
    }

    fn terminate(run: RunRef, listener: &Listener) -> Result<Termination, Error> {
        Launcher::new(clusters()?).terminate(&run, listener)
    }

    fn check(runs: Vec<RunRef>) -> Result<Vec<JobStatus>, Error> {
        Launcher::new(checked_clusters()?).check(&runs)
    }

    fn debug_info(run: RunRef) -> Result<String, Error> {
        Launcher::new(clusters()?).debug_info(&run)
    }
}

impl executor::Guest for KubeRay {
    fn plan(steps: Vec<StepSpec>) -> Result<Vec<Result<Placement, Error>>, Error> {
        let executor = Executor::new(clusters()?);
        Ok(steps.iter().map(|step| executor.plan(step)).collect())
    }

    fn launch(steps: Vec<StepSpec>) -> Result<Vec<Result<Placement, Error>>, Error> {
        let executor = Executor::new(clusters()?);
        Ok(steps.iter().map(|step| executor.launch(step)).collect())
    }

    fn check(steps: Vec<StepRef>) -> Result<Vec<JobStatus>, Error> {
        Executor::new(checked_clusters()?).check(&steps)
    }

    fn terminate(steps: Vec<StepRef>, listener: &Listener) -> Result<Vec<JobStatus>, Error> {
        Executor::new(clusters()?).terminate(&steps, listener)
    }

    fn finish(run_id: String, options: String, tags: Vec<Attributes>) -> Result<(), Error> {
        Executor::new(clusters()?).finish(&run_id, &options, &tags)
    }
}

impl cluster::Guest for KubeRay {
    fn create(spec: ClusterSpec) -> Result<Creation, Error> {
        clusters()?.create(&spec)
    }

    fn wait(cluster: ClusterRef, timeout_ms: u64, listener: &Listener) -> Result<EndpointSet, Error> {
        clusters()?.wait(&cluster, timeout_ms, listener)
    }

    fn get(cluster: ClusterRef) -> Result<ClusterInfo, Error> {
        clusters()?.get(&cluster)
    }

    fn list(query: Query) -> Result<Vec<ClusterInfo>, Error> {
        clusters()?.list(&query)
    }

    fn update(cluster: ClusterRef, patch: String) -> Result<ClusterInfo, Error> {
        clusters()?.update(&cluster, &patch)
    }

    fn renew(cluster: ClusterRef, holder: String) -> Result<(), Error> {
        clusters()?.renew(&cluster, &holder)
    }

    fn release(cluster: ClusterRef, holder: String) -> Result<bool, Error> {
        clusters()?.release(&cluster, &holder)
    }

    fn delete(cluster: ClusterRef) -> Result<bool, Error> {
        clusters()?.delete(&cluster)
    }

    fn endpoints(cluster: ClusterRef) -> Result<EndpointSet, Error> {
        clusters()?.endpoints(&cluster)
    }

    fn expired(rule: Expiry) -> Result<Expirations, Error> {
        clusters()?.expired(&rule)
    }
}

impl pipes::Guest for KubeRay {
    fn plan(script: ScriptSpec) -> Result<JobRef, Error> {
        pipes()?.plan(&script)
    }

    fn launch(script: ScriptSpec, listener: &Listener) -> Result<JobRef, Error> {
        pipes()?.launch(&script, listener)
    }

    fn follow(job: JobRef, from: Option<Position>, listener: &Listener) -> Result<Followed, Error> {
        pipes()?.follow(&job, from.as_deref(), listener)
    }

    fn wait(job: JobRef, listener: &Listener) -> Result<JobStatus, Error> {
        pipes()?.wait(&job, listener)
    }

    fn terminate(job: JobRef, listener: &Listener) -> Result<JobStatus, Error> {
        pipes()?.terminate(&job, listener)
    }
}

impl reconciler::Guest for KubeRay {
    fn reconcile(rule: Reconciliation, listener: &Listener) -> Result<Vec<Leftover>, Error> {
        reconcile::reconcile(&clusters()?, &rule, listener)
    }
}

dagster_ray_sdk::export!(KubeRay: describe, launcher, executor, pipes, cluster, reconciler);
