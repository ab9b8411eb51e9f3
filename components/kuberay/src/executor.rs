//! The contract's `executor`: runs each step as a RayJob with a dedicated cluster, or as a Ray job on a
//! cluster that the steps of a run share: one that their first step creates, or one of a pool.

mod shared;

use std::collections::{BTreeMap, BTreeSet};

use dagster_ray_sdk::{
    Error,
    bindings::executor::{Placement, StepRef, StepSpec},
    clock::Clock,
    http::Http,
    model::{Attributes, JobRef, JobStatus},
    progress::ProgressListener,
};
use dagster_ray_submission::{
    environment,
    executor::submission,
    options::{Isolation, Options},
    session::{self, Nodes},
    stop as ray_stop,
    tasks::{self, HostTasks, TaskClient as _},
    worker_failure,
};

use crate::{
    cluster::Clusters,
    job::{
        JobLocation,
        create::{self, Launched, Plan},
        ended,
        pending::Reasons,
        status::RayJob,
        stop,
    },
    kubernetes::{RAY_CLUSTER, RAY_JOB},
    labels,
    manifest::Template,
    names,
    options::{self, ClusterPlacement, JobOptions},
    pool::Pools,
    reconcile::{self, NewAttempt},
};

/// How long to wait for a stopped step: the step worker's stop time and 10 s.
const TIMEOUT_MS: u64 = (environment::STEP_STOP_WAIT_S as u64 + 10) * 1_000;

/// The contract's executor.
pub struct Executor<H, C> {
    clusters: Clusters<H, C>,
}

/// Steps that one request covers, each with its index in the caller's list.
type Group<'s> = Vec<(usize, &'s StepRef)>;

impl<H: Http, C: Clock> Executor<H, C> {
    /// Creates an executor on the API server of these clusters.
    pub fn new(clusters: Clusters<H, C>) -> Self {
        Self { clusters }
    }

    /// Checks a step's options and manifest, and returns the placement of its first launch. Makes no request.
    pub fn plan(&self, step: &StepSpec) -> Result<Placement, Error> {
        let (common, own) = options::job(&step.options, &step.tags)?;
        if !common.is_on_ray() {
            return Ok(Placement::Local);
        }
        if common.isolation == Isolation::Task {
            tasks::check_environment(&common)?;
            return Ok(Placement::Task(tasks::reference(step)));
        }
        if own.cluster == ClusterPlacement::Pool {
            let pool = Pools::new(&self.clusters).pool(&step.deployment, &own)?;
            let id = submission(step, common)?.submission_id;
            let location = JobLocation::Leased { namespace: pool.namespace, run_id: step.run_id.clone() };
            return Ok(Placement::Job(reference(step, location.reference(&id, None))));
        }
        if own.cluster == ClusterPlacement::Shared {
            let id = submission(step, common)?.submission_id;
            let template = Template::read(own.ray_job.clone(), RAY_JOB, "ray_job")?;
            let location = JobLocation::RayCluster {
                namespace: self.namespace(&template, &own),
                name: names::steps_cluster(&step.run_id),
                uid: None,
                dashboard: None,
                session: None,
            };
            return Ok(Placement::Job(reference(step, location.reference(&id, None))));
        }
        let plan = self.dedicated_plan(step, common, own)?;
        plan.document("checked", 0)?;
        Ok(Placement::Job(self.dedicated_reference(step, &plan, 0)))
    }

    /// Launches a step, unless it is local. A live job of the step is reused; an ended one is launched again
    /// under a new name. What earlier attempts of the step left in Kubernetes is stopped first.
    pub fn launch(&self, step: &StepSpec) -> Result<Placement, Error> {
        let (common, own) = options::job(&step.options, &step.tags)?;
        if !common.is_on_ray() {
            return Ok(Placement::Local);
        }
        if common.isolation == Isolation::Task {
            tasks::check_environment(&common)?;
            HostTasks.submit(tasks::task(step, common))?;
            return Ok(Placement::Task(tasks::reference(step)));
        }
        if own.cluster != ClusterPlacement::Dedicated {
            return self.launch_on_shared(step, common, &own).map(Placement::Job);
        }
        self.launch_dedicated(step, common, own).map(Placement::Job)
    }

    fn launch_dedicated(&self, step: &StepSpec, common: Options, own: JobOptions) -> Result<StepRef, Error> {
        let plan = self.dedicated_plan(step, common, own)?;
        if step.attempt > 0 {
            self.remove_earlier(&plan.namespace, step, false)?;
        }
        let mut launches = 0;
        loop {
            let name = names::step_job(&step.run_id, &step.step_key, &plan.submission_id(launches));
            let document = plan.document(&name, launches)?;
            match create::create_or_adopt(&self.clusters.kubernetes, &plan.namespace, &document)? {
                Launched::Live => return Ok(self.dedicated_reference(step, &plan, launches)),
                Launched::Ended(_) => {
                    if launches == 0 {
                        self.remove_earlier(&plan.namespace, step, true)?;
                    }
                    launches += 1;
                }
            }
        }
    }

    /// Removes what earlier workers of the step left in Kubernetes.
    fn remove_earlier(&self, namespace: &str, step: &StepSpec, is_relaunch: bool) -> Result<(), Error> {
        let new = NewAttempt {
            deployment: &step.deployment,
            run_id: &step.run_id,
            step_key: &step.step_key,
            attempt: step.attempt,
            is_relaunch,
        };
        for kind in [RAY_JOB, RAY_CLUSTER] {
            reconcile::remove_earlier(&self.clusters, kind, namespace, &new)?;
        }
        Ok(())
    }

    /// Returns the statuses of steps, in the same order, with one list per run and namespace, and one per
    /// shared cluster. While dedicated clusters start, one more request finds what keeps them from starting.
    pub fn check(&self, steps: &[StepRef]) -> Result<Vec<JobStatus>, Error> {
        tasks::apart(steps, |jobs| self.check_jobs(jobs), |steps| tasks::check(&HostTasks, steps))
    }

    fn check_jobs(&self, steps: &[&StepRef]) -> Result<Vec<JobStatus>, Error> {
        let (dedicated, shared) = self.group_by_cluster(steps);
        let mut statuses: BTreeMap<usize, JobStatus> = BTreeMap::new();
        for ((namespace, run_id), group) in dedicated {
            let listed = self.list_jobs(&namespace, &run_id)?;
            let reasons = Reasons::read(&self.clusters.kubernetes, &namespace, &listed);
            for (index, step) in group {
                let job = create::latest(&listed, &step.job.submission_id);
                statuses.insert(index, worker_failure::explained(reasons.status_of(job, &step.job)));
            }
        }
        let patience = self.clusters.kubernetes.patience();
        let nodes = Nodes::sampled(self.clusters.kubernetes.clock());
        for group in shared {
            let found = self.request_shared(&group, |jobs, _| {
                session::read_all(jobs, &patience, nodes, group.iter().map(|(_, step)| &step.job))
            })?;
            statuses.extend(group.iter().map(|(index, _)| *index).zip(found));
        }
        Ok(statuses.into_values().collect())
    }

    /// Stops steps together, deletes the objects created for them, and returns the final statuses, in the
    /// same order.
    pub fn terminate(
        &self,
        steps: &[StepRef],
        listener: &impl ProgressListener,
    ) -> Result<Vec<JobStatus>, Error> {
        let clock = self.clusters.kubernetes.clock();
        tasks::apart(
            steps,
            |jobs| self.terminate_jobs(jobs, listener),
            |steps| tasks::terminate(&HostTasks, &clock, steps, listener),
        )
    }

    fn terminate_jobs(
        &self,
        steps: &[&StepRef],
        listener: &impl ProgressListener,
    ) -> Result<Vec<JobStatus>, Error> {
        let (dedicated, shared) = self.group_by_cluster(steps);
        let mut statuses: BTreeMap<usize, JobStatus> = BTreeMap::new();
        for ((namespace, run_id), group) in dedicated {
            let listed = self.list_jobs(&namespace, &run_id)?;
            let mut found: Vec<(usize, &RayJob)> = Vec::new();
            for (index, step) in group {
                match create::latest(&listed, &step.job.submission_id) {
                    Some(job) => found.push((index, job)),
                    None => {
                        statuses.insert(index, create::missing(&step.job));
                    }
                }
            }
            let jobs: Vec<&RayJob> = found.iter().map(|(_, job)| *job).collect();
            let outcomes = stop::stop_jobs(&self.clusters.kubernetes, &jobs, TIMEOUT_MS, listener)?;
            statuses.extend(
                found.iter().map(|(index, _)| *index).zip(outcomes.into_iter().map(|outcome| outcome.status)),
            );
        }
        for group in shared {
            let clock = self.clusters.kubernetes.clock();
            let found = self.request_shared(&group, |jobs, ids| {
                let outcomes = ray_stop::stop_jobs(jobs, clock, ids, listener)?;
                Ok(outcomes.into_iter().map(|outcome| outcome.status).collect())
            })?;
            statuses.extend(group.iter().map(|(index, _)| *index).zip(found));
        }
        Ok(statuses.into_values().collect())
    }

    /// Deletes the clusters that a run's steps shared, ends the run's leases of clusters of pools, and deletes the RayJobs of ended runs that were kept for their
    /// time.
    ///
    /// `tags` are the tags of the run's steps, which can name other namespaces than the configuration.
    ///
    /// # Errors
    /// The first error of a deletion, after every namespace was tried.
    pub fn finish(&self, run_id: &str, configuration: &str, tags: &[Attributes]) -> Result<(), Error> {
        let configured = self.configured(configuration, &Vec::new())?;
        // A step with an invalid tag was not launched.
        let tagged = tags.iter().filter_map(|tags| self.configured(configuration, tags).ok());
        let all: Vec<(String, bool)> = tagged.chain([configured]).collect();
        let mut first_error = None;
        for (namespace, _) in all.iter().filter(|(_, is_on_pool)| *is_on_pool).collect::<BTreeSet<_>>() {
            first_error = first_error.or(Pools::new(&self.clusters).end(namespace, run_id).err());
        }
        let namespaces: BTreeSet<String> = all.into_iter().map(|(namespace, _)| namespace).collect();
        for namespace in namespaces {
            let deleted = self.clusters.delete_of_run(RAY_CLUSTER, &namespace, labels::ROLE_STEPS, run_id);
            first_error = first_error.or(deleted.err());
            self.delete_ended_jobs(&namespace, run_id);
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Deletes the RayJobs that the run's deployment has kept for their time. For runs that KubeRay does not launch,
    /// nothing else deletes them.
    fn delete_ended_jobs(&self, namespace: &str, run_id: &str) {
        let Ok(steps) = self.list_jobs(namespace, run_id) else { return };
        if let Some(deployment) = steps.first().and_then(|step| step.metadata.deployment.as_deref()) {
            ended::delete_ended(&self.clusters.kubernetes, namespace, deployment);
        }
    }

    /// Returns the namespace that these options name, and whether they place steps on a cluster of a pool.
    fn configured(&self, configuration: &str, tags: &Attributes) -> Result<(String, bool), Error> {
        let (_, own) = options::job(configuration, tags)?;
        let template = Template::read(own.ray_job.clone(), RAY_JOB, "ray_job")?;
        Ok((self.namespace(&template, &own), own.cluster == ClusterPlacement::Pool))
    }

    fn dedicated_plan(&self, step: &StepSpec, common: Options, own: JobOptions) -> Result<Plan, Error> {
        let submission = submission(step, common)?;
        Plan::new(submission, own, &step.run_id, Some(&step.step_key), &self.clusters.namespace)
    }

    fn dedicated_reference(&self, step: &StepSpec, plan: &Plan, launches: u32) -> StepRef {
        let id = plan.submission_id(launches);
        let name = names::step_job(&step.run_id, &step.step_key, &id);
        let location = JobLocation::RayJob { namespace: plan.namespace.clone(), name, pool: None };
        reference(step, location.reference(&id, None))
    }

    fn namespace(&self, template: &Template, own: &JobOptions) -> String {
        template.namespace().or(own.namespace.as_deref()).unwrap_or(&self.clusters.namespace).to_owned()
    }

    fn list_jobs(&self, namespace: &str, run_id: &str) -> Result<Vec<RayJob>, Error> {
        create::list(&self.clusters.kubernetes, namespace, &create::selector(labels::ROLE_STEP, Some(run_id)))
    }

    /// Groups steps with dedicated clusters by namespace and run, and the others by their shared cluster.
    fn group_by_cluster<'s>(
        &self,
        steps: &[&'s StepRef],
    ) -> (BTreeMap<(String, String), Group<'s>>, Vec<Group<'s>>) {
        let mut dedicated: BTreeMap<(String, String), Group<'s>> = BTreeMap::new();
        let mut shared: BTreeMap<String, Group<'s>> = BTreeMap::new();
        for (index, step) in steps.iter().copied().enumerate() {
            let namespace = match JobLocation::from_reference(&step.job) {
                Some(location @ (JobLocation::RayCluster { .. } | JobLocation::Leased { .. })) => {
                    shared.entry(location.to_json()).or_default().push((index, step));
                    continue;
                }
                Some(JobLocation::RayJob { namespace, .. }) => namespace,
                None => self.clusters.namespace.clone(),
            };
            dedicated.entry((namespace, step.run_id.clone())).or_default().push((index, step));
        }
        (dedicated, shared.into_values().collect())
    }
}

fn reference(step: &StepSpec, job: JobRef) -> StepRef {
    StepRef { run_id: step.run_id.clone(), step_key: step.step_key.clone(), attempt: step.attempt, job }
}

#[cfg(test)]
mod tests;
