//! The contract's `launcher`: runs each run as a RayJob, with a dedicated cluster or on one of a pool.

use std::fmt::Write as _;

use dagster_ray_sdk::{
    Error,
    bindings::launcher::{RunPlacement, RunRef, RunSpec, Termination},
    clock::Clock,
    http::Http,
    info,
    model::{JobState, JobStatus},
    progress::ProgressListener,
};
use dagster_ray_submission::{debug, environment, launcher::submission, options::Options, worker_failure};

use crate::{
    cluster::{Clusters, head, state},
    job::{
        JobLocation,
        create::{self, Launched, Plan, PoolCluster},
        ended,
        pending::Reasons,
        status::RayJob,
        stop,
    },
    kubernetes::{EVENT, RAY_CLUSTER, RAY_JOB, Selection, object},
    labels, names,
    options::{self, ClusterPlacement, JobOptions},
    pool::{Pool, Pools, acquire::Claim},
};

/// How long to wait for a stopped run: the run worker's stop time and 10 s.
const TIMEOUT_MS: u64 = (environment::RUN_STOP_WAIT_S as u64 + 10) * 1_000;
const LOG_LINES: u32 = 200;

/// The contract's launcher.
pub struct Launcher<H, C> {
    clusters: Clusters<H, C>,
}

impl<H: Http, C: Clock> Launcher<H, C> {
    /// Creates a launcher on the API server of these clusters.
    pub fn new(clusters: Clusters<H, C>) -> Self {
        Self { clusters }
    }

    /// Checks a run's options and manifest, and returns where the run executes. Makes no request.
    pub fn plan(&self, run: &RunSpec) -> Result<RunPlacement, Error> {
        let (common, own) = options::job(&run.options, &run.tags)?;
        if !common.is_on_ray() {
            return Ok(RunPlacement::Local);
        }
        let pool = self.pool(run, &own)?;
        let plan = self.job(run, common, own)?;
        let on = pool.as_ref().map(|pool| PoolCluster { name: "checked", pool: &pool.id });
        plan.document_on(on.as_ref(), "checked", 0)?;
        Ok(RunPlacement::Job(reference(run, &plan, pool.as_ref())))
    }

    /// Launches a run (attempt 0) or resumes it (a later attempt). A live RayJob of the attempt is reused. Deletes
    /// the RayJobs of ended runs that were kept for their time.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the attempt's RayJob has ended.
    pub fn launch(&self, run: &RunSpec) -> Result<RunRef, Error> {
        let (common, own) = options::job(&run.options, &run.tags)?;
        let pool = self.pool(run, &own)?;
        let plan = self.job(run, common, own)?;
        let name = names::run_job(&plan.submission_id(0));
        let launched = match &pool {
            Some(pool) => self.launch_on_pool(run, &plan, &name, pool)?,
            None => {
                let document = plan.document(&name, 0)?;
                create::create_or_adopt(&self.clusters.kubernetes, &plan.namespace, &document)?
            }
        };
        match launched {
            Launched::Live => {
                ended::delete_ended(&self.clusters.kubernetes, &plan.namespace, &run.deployment);
                if let Some(pool) = &pool {
                    Pools::new(&self.clusters).keep_up(pool);
                }
                Ok(reference(run, &plan, pool.as_ref()))
            }
            Launched::Ended(job) => Err(Error::Conflict(format!(
                "the RayJob {}/{name} exists and has ended ({:?}): resume the run to start a new attempt",
                plan.namespace,
                job.status().state
            ))),
        }
    }

    /// Launches a run on a cluster of a pool, unless its RayJob exists.
    fn launch_on_pool(&self, run: &RunSpec, plan: &Plan, name: &str, pool: &Pool) -> Result<Launched, Error> {
        let kubernetes = &self.clusters.kubernetes;
        let pools = Pools::new(&self.clusters);
        let cluster = match kubernetes.get(RAY_JOB, &plan.namespace, name) {
            Ok(existing) => object::text(
                &existing,
                &format!("/spec/clusterSelector/{}", head::CLUSTER.replace('/', "~1")),
            )
            .unwrap_or_default()
            .to_owned(),
            Err(Error::NotFound(_)) => {
                let claim = Claim { run_id: &run.run_id, job: Some(name) };
                object::name(&pools.acquire(pool, claim)?).to_owned()
            }
            Err(error) => return Err(error),
        };
        let on = PoolCluster { name: &cluster, pool: &pool.id };
        let document = plan.document_on(Some(&on), name, 0)?;
        let launched = create::create_or_adopt(kubernetes, &plan.namespace, &document);
        // After an error whose request may have been applied, the RayJob decides about the lease.
        if let Err(error) = &launched
            && !error.is_transient()
            && let Err(second) = pools.end(&plan.namespace, &run.run_id)
        {
            info!("the lease of the run was not ended: {}", second.message());
        }
        launched
    }

    fn pool(&self, run: &RunSpec, own: &JobOptions) -> Result<Option<Pool>, Error> {
        if own.cluster != ClusterPlacement::Pool {
            return Ok(None);
        }
        Pools::new(&self.clusters).pool(&run.deployment, own).map(Some)
    }

    /// Stops a run's RayJob and deletes every object created for the run.
    pub fn terminate(&self, run: &RunRef, listener: &impl ProgressListener) -> Result<Termination, Error> {
        let (namespace, name) = self.location(run);
        let kubernetes = &self.clusters.kubernetes;
        let termination = match kubernetes.get(RAY_JOB, &namespace, &name) {
            Err(Error::NotFound(_)) => Termination::Missing,
            Err(error) => return Err(error),
            Ok(job) => {
                let job = RayJob::read(&job);
                let outcomes = stop::stop_jobs(kubernetes, &[&job], TIMEOUT_MS, listener)?;
                let had_ended = outcomes
                    .iter()
                    .any(|outcome| outcome.had_ended || outcome.status.state == JobState::Succeeded);
                if had_ended { Termination::AlreadyEnded } else { Termination::Stopped }
            }
        };
        // The worker stops its own steps, unless it never ran or was killed.
        self.clusters.delete_of_run(RAY_JOB, &namespace, labels::ROLE_STEP, &run.run_id)?;
        self.clusters.delete_of_run(RAY_JOB, &namespace, labels::ROLE_SCRIPT, &run.run_id)?;
        self.clusters.delete_of_run(RAY_CLUSTER, &namespace, labels::ROLE_STEPS, &run.run_id)?;
        if let Some(JobLocation::RayJob { pool: Some(_), .. }) = JobLocation::from_reference(&run.job) {
            Pools::new(&self.clusters).take_back(&namespace, &run.run_id, listener)?;
        }
        Ok(termination)
    }

    /// Returns the statuses of runs, in the same order, with one request per namespace. While clusters start, one
    /// more request finds what keeps them from starting.
    pub fn check(&self, runs: &[RunRef]) -> Result<Vec<JobStatus>, Error> {
        let kubernetes = &self.clusters.kubernetes;
        if let [run] = runs {
            let (namespace, name) = self.location(run);
            return match kubernetes.get(RAY_JOB, &namespace, &name) {
                Ok(job) => {
                    let job = RayJob::read(&job);
                    let reasons = Reasons::read(kubernetes, &namespace, [&job]);
                    Ok(vec![worker_failure::explained(reasons.status_of(Some(&job), &run.job))])
                }
                Err(Error::NotFound(_)) => Ok(vec![create::missing(&run.job)]),
                Err(error) => Err(error),
            };
        }
        let mut listed: Vec<(String, Vec<RayJob>, Reasons)> = Vec::new();
        let mut statuses = Vec::new();
        for run in runs {
            let (namespace, _) = self.location(run);
            if !listed.iter().any(|(known, ..)| *known == namespace) {
                let jobs = create::list(kubernetes, &namespace, &create::selector(labels::ROLE_RUN, None))?;
                let reasons = Reasons::read(kubernetes, &namespace, &jobs);
                listed.push((namespace.clone(), jobs, reasons));
            }
            let Some((_, jobs, reasons)) = listed.iter().find(|(known, ..)| *known == namespace) else {
                continue;
            };
            let job = jobs.iter().find(|job| job.spec.job_id == run.job.submission_id);
            statuses.push(worker_failure::explained(reasons.status_of(job, &run.job)));
        }
        Ok(statuses)
    }

    /// Returns debug information as text: the RayJob's status, its events, and the end of the job's output or
    /// of the head's log.
    pub fn debug_info(&self, run: &RunRef) -> Result<String, Error> {
        let (namespace, name) = self.location(run);
        let kubernetes = &self.clusters.kubernetes;
        let document = match kubernetes.get(RAY_JOB, &namespace, &name) {
            Ok(document) => document,
            Err(Error::NotFound(text)) => return Ok(format!("{text}\n")),
            Err(error) => return Err(error),
        };
        let job = RayJob::read(&document);
        let status = Reasons::read(kubernetes, &namespace, [&job]).status_of(Some(&job), &run.job);
        let mut text = format!("RayJob: {namespace}/{name}\n");
        line(&mut text, "status in Ray", &job.status.job_status);
        line(&mut text, "status in KubeRay", &job.status.job_deployment_status);
        line(&mut text, "reason", &job.status.reason);
        line(&mut text, "message", &status.message.unwrap_or_default());
        line(&mut text, "cluster", &job.status.ray_cluster_name);
        if let Some(cluster) = document.pointer("/status/rayClusterStatus") {
            line(&mut text, "cluster's status", &state::describe(&serde_json::json!({"status": cluster})));
        }
        let which = Selection::Fields(format!("involvedObject.name={name}"));
        if let Ok(events) = kubernetes.list(EVENT, &namespace, &which, &[]) {
            for event in object::elements(&events, "/items") {
                let part = |pointer| object::text(event, pointer).unwrap_or_default();
                line(&mut text, &format!("event {}", part("/reason")), part("/message"));
            }
        }
        let output = job
            .dashboard()
            .filter(|_| !job.status.job_status.is_empty())
            .map(|dashboard| debug::info(&kubernetes.ray_jobs(&dashboard)?, &job.spec.job_id));
        if let Some(Ok(info)) = output {
            text.push_str(&info);
        } else if !job.status.ray_cluster_name.is_empty()
            && let Ok(output) =
                head::log_tails(kubernetes, &namespace, &job.status.ray_cluster_name, LOG_LINES)
        {
            for (container, lines) in output {
                line(&mut text, &format!("the last lines of {container}"), &format!("\n{lines}"));
            }
        }
        Ok(text)
    }

    fn job(&self, run: &RunSpec, common: Options, own: JobOptions) -> Result<Plan, Error> {
        Plan::new(submission(run, common)?, own, &run.run_id, None, &self.clusters.namespace)
    }

    /// Returns the namespace and the name of a run's RayJob.
    fn location(&self, run: &RunRef) -> (String, String) {
        match JobLocation::from_reference(&run.job) {
            Some(JobLocation::RayJob { namespace, name, .. }) => (namespace, name),
            _ => (self.clusters.namespace.clone(), names::run_job(&run.job.submission_id)),
        }
    }
}

fn reference(run: &RunSpec, plan: &Plan, pool: Option<&Pool>) -> RunRef {
    let id = plan.submission_id(0);
    let location = JobLocation::RayJob {
        namespace: plan.namespace.clone(),
        name: names::run_job(&id),
        pool: pool.map(|pool| pool.id.clone()),
    };
    RunRef::new(run, location.reference(&id, None))
}

fn line(text: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "{name}: {value}");
    }
}

#[cfg(test)]
mod tests {

    use dagster_ray_sdk::{
        model::WorkerCommand,
        testing::{ScriptedHttp, VirtualClock},
    };
    use dagster_ray_submission::options::TAG;
    use serde_json::json;

    use super::*;
    use crate::kubernetes::Kubernetes;

    fn run(tag: &serde_json::Value) -> RunSpec {
        RunSpec {
            deployment: "d".to_owned(),
            run_id: "r".to_owned(),
            attempt: 1,
            job_name: "j".to_owned(),
            code_location: None,
            command: WorkerCommand { argv: vec!["dagster".to_owned()], payload: None, env: Vec::new() },
            tags: vec![(TAG.to_owned(), tag.to_string())],
            options: r#"{"namespace": "configured", "image": "ray"}"#.to_owned(),
        }
    }

    fn plan(tag: &serde_json::Value) -> Result<RunPlacement, Error> {
        let http = ScriptedHttp::new([]);
        let kubernetes = Kubernetes::new(&http, VirtualClock::default());
        let planned = Launcher::new(Clusters::new(kubernetes, "default".to_owned())).plan(&run(tag));
        assert!(http.requests().is_empty());
        planned
    }

    #[test]
    fn plan_names_the_namespace_of_the_options_and_of_the_tag() {
        for (tag, expected) in [
            (json!({}), "configured"),
            (json!({"namespace": "tagged"}), "tagged"),
            (json!({"ray_job": {"metadata": {"namespace": "manifest"}}}), "manifest"),
        ] {
            let Ok(RunPlacement::Job(run)) = plan(&tag) else { panic!("a job: {tag}") };
            let Some(JobLocation::RayJob { namespace, name, .. }) = JobLocation::from_reference(&run.job)
            else {
                panic!("a RayJob: {tag}")
            };
            assert_eq!((namespace.as_str(), run.job.submission_id.as_str()), (expected, "dagster-run-r-1"));
            assert_eq!(name, names::run_job("dagster-run-r-1"));
        }
    }

    #[test]
    fn plan_reports_invalid_options_and_places_a_disabled_run_locally() {
        assert_eq!(plan(&json!({"enabled": false})), Ok(RunPlacement::Local));
        for mistake in [json!({"num_cpus": "two"}), json!({"ray_job": {"spec": {"entrypoint": "x"}}})] {
            assert!(matches!(plan(&mistake), Err(Error::InvalidConfig(_))), "{mistake}");
        }
    }
}
