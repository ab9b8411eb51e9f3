//! The simulated Ray: the real Jobs API client, connected to the simulated head.

use dagster_ray_jobs::{
    Job, JobsClient, RayJobs, Submission, Version,
    logs::{FollowAction, FollowOptions, FollowResult},
};
use dagster_ray_sdk::{Error, http::Timeouts, retry::Policy};
use serde_json::Value;

use crate::{head, keys::KeyValueStore, machine::Machine, simulation::Simulation};

/// A Ray client whose jobs run on this machine.
pub struct SimulatedRay<K, M>(JobsClient<Simulation<K, M>, Simulation<K, M>>);

impl<K: KeyValueStore + 'static, M: Machine + 'static> SimulatedRay<K, M> {
    /// Creates the client of a simulation.
    ///
    /// # Errors
    /// The simulated head's address is invalid. As it is a constant, this does not happen.
    pub fn new(simulation: &Simulation<K, M>) -> Result<Self, Error> {
        JobsClient::new(head::ADDRESS, simulation.clone(), simulation.clone()).map(Self)
    }
}

impl<K: KeyValueStore + 'static, M: Machine + 'static> RayJobs for SimulatedRay<K, M> {
    /// Sets the retry policy, except one without retries: a simulated outage ends only because calls wait, and
    /// their waits are virtual.
    fn limited(self, policy: Policy, timeouts: Option<Timeouts>) -> Self {
        if policy == Policy::ONCE { self } else { Self(self.0.limited(policy, timeouts)) }
    }

    fn version(&self) -> Result<Version, Error> {
        self.0.version()
    }

    fn submit(&self, job: &Submission) -> Result<String, Error> {
        self.0.submit(job)
    }

    fn get(&self, submission_id: &str) -> Result<Job, Error> {
        self.0.get(submission_id)
    }

    fn list(&self) -> Result<Vec<Job>, Error> {
        self.0.list()
    }

    fn get_many(&self, ids: &[String]) -> Vec<Result<Job, Error>> {
        self.0.get_many(ids)
    }

    fn are_nodes_dead(&self, ids: &[String]) -> Vec<Result<bool, Error>> {
        self.0.are_nodes_dead(ids)
    }

    fn stop_many(&self, ids: &[String]) -> Vec<Result<bool, Error>> {
        self.0.stop_many(ids)
    }

    fn delete(&self, id: &str) -> Result<bool, Error> {
        self.0.delete(id)
    }

    fn logs(&self, id: &str) -> Result<String, Error> {
        self.0.logs(id)
    }

    fn follow_logs(
        &self,
        id: &str,
        follow: &FollowOptions,
        next: &mut dyn FnMut() -> FollowAction,
        deliver: &mut dyn FnMut(Vec<Vec<u8>>),
    ) -> Result<FollowResult, Error> {
        self.0.follow_logs(id, follow, next, deliver)
    }

    /// Returns the runtime environment unchanged: jobs run on this machine and can read local directories.
    fn prepare_runtime_env(&self, env: Value) -> Result<Value, Error> {
        Ok(env)
    }

    fn dashboard_url(&self, id: &str) -> String {
        self.0.dashboard_url(id)
    }
}
