//! Steps on the RayCluster that the steps of a run share, which their run created or leased.

use dagster_ray_jobs::JobsClient;
use dagster_ray_sdk::{
    Error,
    bindings::{
        cluster::{ClusterRef, ClusterSpec, Creation, Owner},
        executor::{StepRef, StepSpec},
    },
    clock::Clock,
    debug,
    http::Http,
    info, json,
    model::{JobRef, JobStatus},
    progress::{Channel, Level, ProgressListener},
    warn,
};
use dagster_ray_submission::{executor::Executor as RayExecutor, ids, options::Options, session};
use serde_json::json;

use super::{Executor, Group, reference};
use crate::{
    annotations,
    cluster::{Clusters, state},
    job::{JobLocation, create},
    kubernetes::{RAY_CLUSTER, RAY_JOB, object},
    labels,
    manifest::Template,
    names,
    options::{ClusterPlacement, JobOptions},
    pool::{Pools, acquire::Claim},
};

/// Seconds that the shared cluster of a run may take to become ready, by default.
const CLUSTER_TIMEOUT_S: u64 = 900;

impl<H: Http, C: Clock> Executor<H, C> {
    /// Submits a step to the shared cluster of its run, which the first step creates or leases. Waits for the cluster,
    /// also for days if it is in a queue: to the caller, the step is being launched, and the log says why.
    pub(super) fn launch_on_shared(
        &self,
        step: &StepSpec,
        common: Options,
        own: &JobOptions,
    ) -> Result<StepRef, Error> {
        let cluster = match own.cluster {
            ClusterPlacement::Pool => self.leased_cluster(step, own)?,
            ClusterPlacement::Dedicated | ClusterPlacement::Shared => self.steps_cluster(step, own)?,
        };
        let timeout_ms = own.cluster_timeout_seconds.unwrap_or(CLUSTER_TIMEOUT_S).saturating_mul(1_000);
        let endpoints = self.clusters.wait_for(&cluster, timeout_ms, false, &StepLog)?;
        if step.attempt > 0 {
            let namespace = cluster.namespace.as_deref().unwrap_or(&self.clusters.namespace);
            self.remove_earlier(namespace, step, false)?;
        }
        let jobs = self.jobs(&endpoints.dashboard_url)?;
        let kubernetes = &self.clusters.kubernetes;
        let launched =
            RayExecutor::new(jobs, kubernetes.clock(), kubernetes.patience()).submit(step, common)?;
        let location = JobLocation::RayCluster {
            namespace: cluster.namespace.unwrap_or_default(),
            name: cluster.name,
            uid: cluster.uid,
            dashboard: Some(endpoints.dashboard_url),
            session: session::of_reference(&launched.job),
        };
        let JobRef { submission_id, dashboard_url, .. } = launched.job;
        Ok(reference(step, location.reference(&submission_id, dashboard_url)))
    }

    /// Returns the cluster of a pool that the step's run has leased, or leases one.
    fn leased_cluster(&self, step: &StepSpec, own: &JobOptions) -> Result<ClusterRef, Error> {
        let pools = Pools::new(&self.clusters);
        let pool = pools.pool(&step.deployment, own)?;
        let cluster = pools.acquire(&pool, Claim { run_id: &step.run_id, job: None })?;
        Ok(Clusters::<H, C>::reference(RAY_CLUSTER, &cluster, &Default::default()))
    }

    fn steps_cluster(&self, step: &StepSpec, own: &JobOptions) -> Result<ClusterRef, Error> {
        let template = Template::read(own.ray_job.clone(), RAY_JOB, "ray_job")?;
        let namespace = self.namespace(&template, own);
        let name = names::steps_cluster(&step.run_id);
        let owner = Owner {
            deployment: step.deployment.clone(),
            run_id: step.run_id.clone(),
            step_key: None,
            resource_key: None,
            holder: holder(&step.run_id),
        };
        // Only the first step of a run has to create the cluster; the others find it here. The creation refuses
        // the cluster of another owner.
        match self.clusters.kubernetes.get(RAY_CLUSTER, &namespace, &name) {
            Ok(existing)
                if !object::is_deleting(&existing) && annotations::is_owned_by(&existing, &owner) =>
            {
                return Ok(Clusters::<H, C>::reference(RAY_CLUSTER, &existing, &Default::default()));
            }
            Ok(_) | Err(Error::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        let mut origin = vec![
            ("dagster/job".to_owned(), step.job_name.clone()),
            (labels::ROLE.to_owned(), labels::ROLE_STEPS.to_owned()),
        ];
        origin
            .extend(step.code_location.iter().map(|name| ("dagster/code-location".to_owned(), name.clone())));
        let spec = ClusterSpec {
            name: Some(name),
            owner,
            image: own.image.clone(),
            labels: origin,
            env: Vec::new(),
            options: json::text(&json!({"namespace": namespace, "ray_cluster": template.ray_cluster()})),
        };
        match self.clusters.create(&spec)? {
            Creation::Created(cluster) | Creation::Joined(cluster) => Ok(cluster),
        }
    }

    fn jobs(&self, dashboard: &str) -> Result<JobsClient<&H, &C>, Error> {
        self.clusters.kubernetes.ray_jobs(dashboard)
    }

    /// Sends a request to the Ray of a shared cluster. If the request fails and the API server reports that
    /// the cluster does not exist, or was not ready yet, its jobs are missing. An unreachable Ray alone does
    /// not make them missing.
    pub(super) fn request_shared(
        &self,
        group: &Group<'_>,
        request: impl Fn(&JobsClient<&H, &C>, &[String]) -> Result<Vec<JobStatus>, Error>,
    ) -> Result<Vec<JobStatus>, Error> {
        let gone = || group.iter().map(|(_, step)| create::missing(&step.job)).collect();
        let Some((_, first)) = group.first() else { return Ok(Vec::new()) };
        let (cluster, dashboard) = match JobLocation::from_reference(&first.job) {
            Some(JobLocation::RayCluster { namespace, name, uid, dashboard, .. }) => {
                (ClusterRef { name, namespace: Some(namespace), uid, details: None }, dashboard)
            }
            Some(JobLocation::Leased { namespace, run_id }) => {
                match Pools::new(&self.clusters).leased(&namespace, &run_id)? {
                    Some(found) => {
                        (Clusters::<H, C>::reference(RAY_CLUSTER, &found, &Default::default()), None)
                    }
                    None => return Ok(gone()),
                }
            }
            Some(JobLocation::RayJob { .. }) | None => return Ok(gone()),
        };
        let ids: Vec<String> = group.iter().map(|(_, step)| step.job.submission_id.clone()).collect();
        let response = match dashboard {
            Some(dashboard) => self.jobs(&dashboard).and_then(|jobs| request(&jobs, &ids)),
            None => {
                self.clusters.endpoints(&cluster).and_then(|at| request(&self.jobs(&at.dashboard_url)?, &ids))
            }
        };
        match response {
            Err(Error::NotFound(_)) => Ok(gone()),
            Err(Error::Cancelled) => Err(Error::Cancelled),
            Err(error) => match self.clusters.current(&self.clusters.target(&cluster)) {
                Err(Error::NotFound(_)) => Ok(gone()),
                // The launch that waited for the cluster was canceled.
                Ok(found) if state::was_never_ready(&found) => Ok(gone()),
                _ => Err(error),
            },
            found => found,
        }
    }
}

/// Returns the holder of the cluster that a run's steps share.
fn holder(run_id: &str) -> String {
    ids::run(run_id, 0)
}

/// A listener that writes to the log of the step that is being launched. `launch` has no listener from its
/// caller.
struct StepLog;

impl ProgressListener for StepLog {
    fn progress(&self, message: &str) {
        debug!("{message}");
    }

    fn log(&self, level: Level, message: &str) {
        match level {
            Level::Debug => debug!("{message}"),
            Level::Info => info!("{message}"),
            Level::Warning | Level::Error => warn!("{message}"),
        }
    }

    fn event(&self, _kind: &str, _body: &str) {}

    fn output(&self, _channel: Channel, _lines: &[Vec<u8>]) {}

    fn cancelled(&self) -> bool {
        false
    }
}
