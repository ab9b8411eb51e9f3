//! The contract's `launcher`: runs each run as a RayJob with a dedicated cluster.

use std::fmt::Write as _;

use dagster_ray_jobs::JobsClient;
use dagster_ray_sdk::{
    Error,
    bindings::launcher::{RunRef, RunSpec, Termination},
    clock::Clock,
    http::Http,
    model::{JobState, JobStatus},
    progress::ProgressListener,
};
use dagster_ray_submission::{debug, environment, ids, launcher::submission};

use crate::{
    cluster::{Clusters, head, state},
    job::{
        JobLocation,
        create::{self, Launched, Plan},
        ended,
        pending::Reasons,
        status::RayJob,
        stop,
    },
    kubernetes::{EVENT, RAY_CLUSTER, RAY_JOB, Selection, object},
    labels, names, options,
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

    /// Launches a run (attempt 0) or resumes it (a later attempt). A live RayJob of the attempt is reused. Deletes
    /// the RayJobs of ended runs that were kept for their time.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the attempt's RayJob has ended.
    pub fn launch(&self, run: &RunSpec) -> Result<RunRef, Error> {
        let (common, own) = options::job(&run.options, &run.tags)?;
        let submission = submission(run, common)?;
        let plan = Plan::new(submission, own, &run.run_id, None, &self.clusters.namespace)?;
        let id = plan.submission_id(0);
        let name = names::run_job(&id);
        match create::create_or_adopt(&self.clusters.kubernetes, &plan.namespace, &plan.document(&name, 0)?)?
        {
            Launched::Live => {
                ended::delete_ended(&self.clusters.kubernetes, &plan.namespace, &run.deployment);
                Ok(reference(&run.run_id, run.attempt, plan.namespace))
            }
            Launched::Ended(job) => Err(Error::Conflict(format!(
                "the RayJob {}/{name} exists and has ended ({:?}): resume the run to start a new attempt",
                plan.namespace,
                job.status().state
            ))),
        }
    }

    /// Returns the reference that a launch in the backend's default namespace returns. Makes no request.
    pub fn locate(&self, run_id: &str, attempt: u32) -> RunRef {
        reference(run_id, attempt, self.clusters.namespace.clone())
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
        self.clusters.delete_of_run(RAY_CLUSTER, &namespace, labels::ROLE_STEPS, &run.run_id)?;
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
                    Ok(vec![reasons.status_of(Some(&job), &run.job)])
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
            statuses.push(reasons.status_of(job, &run.job));
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
        let output = job.dashboard().filter(|_| !job.status.job_status.is_empty()).map(|dashboard| {
            let jobs = JobsClient::new(&dashboard, kubernetes.http(), kubernetes.clock())?;
            debug::info(&jobs, &job.spec.job_id)
        });
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

    /// Returns the namespace and the name of a run's RayJob.
    fn location(&self, run: &RunRef) -> (String, String) {
        match JobLocation::from_reference(&run.job) {
            Some(JobLocation::RayJob { namespace, name }) => (namespace, name),
            _ => (self.clusters.namespace.clone(), names::run_job(&run.job.submission_id)),
        }
    }
}

fn reference(run_id: &str, attempt: u32, namespace: String) -> RunRef {
    let id = ids::run(run_id, attempt);
    let location = JobLocation::RayJob { namespace, name: names::run_job(&id) };
    RunRef { run_id: run_id.to_owned(), attempt, job: location.reference(&id, None) }
}

fn line(text: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "{name}: {value}");
    }
}
