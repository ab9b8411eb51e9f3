//! An in-memory Ray that tests script.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
};

use dagster_ray_jobs::{
    Job, RayJobs, Submission, Version,
    logs::{FollowAction, FollowEnd, FollowOptions, FollowResult, Lines},
};
use dagster_ray_sdk::{
    Error,
    http::Timeouts,
    model::{RetryHint, WorkerCommand},
    retry::Policy,
};
use serde_json::Value;

use crate::{entrypoint, ids, kill_pending};

/// The outcome of a submission.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SubmitOutcome {
    /// The job is created, and the response is lost.
    Lost,
    /// The connection breaks, and no job is created.
    Dropped,
    /// The connection is refused.
    Refused,
    /// Ray rejects the request as invalid.
    Invalid,
}

/// Returns the command line of a worker, as a launch submits it.
fn worker() -> String {
    let argv = ["python", "-m", "dagster", "api", "execute_run"].map(str::to_owned).to_vec();
    let command = WorkerCommand { argv, payload: Some("{}".to_owned()), env: Vec::new() };
    entrypoint::command_line(&command).expect("a command line")
}

#[derive(Default)]
pub(crate) struct FakeRay {
    jobs: RefCell<BTreeMap<String, Job>>,
    submissions: RefCell<Vec<Submission>>,
    outcomes: RefCell<VecDeque<SubmitOutcome>>,
    calls: RefCell<Vec<String>>,
    new_status: RefCell<Option<String>>,
    fail_reads: Cell<bool>,
    fail_version: Cell<bool>,
    is_node_dead: Cell<bool>,
    fail_nodes: Cell<bool>,
    fail_logs: Cell<bool>,
    asks_to_wait_ms: Cell<Option<u64>>,
    session: RefCell<Option<String>>,
    restart: RefCell<Option<String>>,
    stops_until_ended: RefCell<BTreeMap<String, u32>>,
    rejected_stops: RefCell<Vec<String>>,
    log: RefCell<Vec<String>>,
    streams: Cell<usize>,
}

impl FakeRay {
    pub(crate) fn add(&self, id: &str, status: &str) {
        let job = Job {
            submission_id: Some(id.to_owned()),
            status: status.to_owned(),
            entrypoint: worker(),
            driver_node_id: (status != "PENDING").then(|| "node".to_owned()),
            ..Job::default()
        };
        self.jobs.borrow_mut().insert(id.to_owned(), job);
    }

    /// Adds a job that ends at the n-th stop request. With 0, no stop request reaches it.
    pub(crate) fn add_ignoring_stops(&self, id: &str, status: &str, stops: u32) {
        self.add(id, status);
        self.stops_until_ended.borrow_mut().insert(id.to_owned(), stops);
    }

    /// Lets a job ignore every stop request.
    pub(crate) fn ignore_stops(&self, id: &str) {
        self.stops_until_ended.borrow_mut().insert(id.to_owned(), 0);
    }

    /// Adds a job with metadata that started at a time in seconds since the Unix epoch.
    pub(crate) fn add_with(&self, id: &str, status: &str, start_s: u64, metadata: &[(&str, &str)]) {
        self.add(id, status);
        if let Some(job) = self.jobs.borrow_mut().get_mut(id) {
            job.start_time = Some(start_s * 1_000);
            job.metadata =
                metadata.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        }
    }

    pub(crate) fn set_entrypoint(&self, id: &str, entrypoint: &str) {
        if let Some(job) = self.jobs.borrow_mut().get_mut(id) {
            entrypoint.clone_into(&mut job.entrypoint);
        }
    }

    /// Lets Ray reject every stop request of a job.
    pub(crate) fn reject_stops(&self, id: &str) {
        self.rejected_stops.borrow_mut().push(id.to_owned());
    }

    /// Returns the submission ids of the jobs that have not ended.
    pub(crate) fn live(&self) -> Vec<String> {
        self.jobs.borrow().iter().filter(|(_, job)| !job.has_ended()).map(|(id, _)| id.clone()).collect()
    }

    pub(crate) fn set_submit_outcomes(&self, outcomes: impl IntoIterator<Item = SubmitOutcome>) {
        self.outcomes.borrow_mut().extend(outcomes);
    }

    pub(crate) fn set_new_status(&self, status: &str) {
        *self.new_status.borrow_mut() = Some(status.to_owned());
    }

    /// Sets the log of every job. The stream breaks after each part except the last.
    pub(crate) fn write_log(&self, parts: &[&str]) {
        *self.log.borrow_mut() = parts.iter().map(|part| (*part).to_owned()).collect();
    }

    /// The next request is answered with a pause before the one after it.
    pub(crate) fn ask_to_wait(&self, ms: u64) {
        self.asks_to_wait_ms.set(Some(ms));
    }

    pub(crate) fn fail_reads(&self, fail: bool) {
        self.fail_reads.set(fail);
    }

    pub(crate) fn fail_version(&self, fail: bool) {
        self.fail_version.set(fail);
    }

    /// Lets the node of all jobs die. Ray still reports them as running.
    pub(crate) fn kill_node(&self) {
        self.is_node_dead.set(true);
    }

    pub(crate) fn fail_nodes(&self, fail: bool) {
        self.fail_nodes.set(fail);
    }

    pub(crate) fn fail_logs(&self, fail: bool) {
        self.fail_logs.set(fail);
    }

    pub(crate) fn set_session(&self, session: &str) {
        *self.session.borrow_mut() = Some(session.to_owned());
    }

    /// Restarts the head without persistence: with a new session and without jobs.
    pub(crate) fn restart(&self, session: &str) {
        self.set_session(session);
        self.jobs.borrow_mut().clear();
    }

    /// Restarts the head when the next submission arrives.
    pub(crate) fn restart_during_submission(&self, session: &str) {
        *self.restart.borrow_mut() = Some(session.to_owned());
    }

    pub(crate) fn submissions(&self) -> Vec<Submission> {
        self.submissions.borrow().clone()
    }

    /// Returns the submission ids of all attempts.
    pub(crate) fn submitted(&self) -> Vec<String> {
        self.submissions.borrow().iter().map(|one| one.submission_id.clone()).collect()
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.borrow().clone()
    }

    fn call(&self, what: String) {
        self.calls.borrow_mut().push(what);
    }

    fn read(&self, what: String) -> Result<(), Error> {
        self.call(what);
        if let Some(ms) = self.asks_to_wait_ms.take() {
            return Err(Error::Unavailable(RetryHint {
                reason: "429".to_owned(),
                after_ms: Some(ms),
                maybe_applied: false,
            }));
        }
        if self.fail_reads.get() { Err(Error::unavailable("500", true)) } else { Ok(()) }
    }

    fn make(&self, submission: &Submission) {
        self.add(&submission.submission_id, self.new_status.borrow().as_deref().unwrap_or("PENDING"));
        if let Some(job) = self.jobs.borrow_mut().get_mut(&submission.submission_id) {
            job.metadata.clone_from(&submission.metadata);
            job.entrypoint.clone_from(&submission.entrypoint);
        }
        if ids::is_kill_job(&submission.submission_id) {
            self.add(&submission.submission_id, "SUCCEEDED");
            for (id, job) in self.jobs.borrow_mut().iter_mut() {
                if submission.entrypoint.split(' ').any(|word| word == id) && job.status == "PENDING" {
                    "FAILED".clone_into(&mut job.status);
                    job.error_type = Some(kill_pending::SUPERVISOR_DIED.to_owned());
                }
            }
        }
    }

    fn stop(&self, id: &str) -> Result<bool, Error> {
        if self.rejected_stops.borrow().iter().any(|rejected| rejected == id) {
            return Err(Error::backend(403, "Forbidden", "no permission to stop"));
        }
        let mut jobs = self.jobs.borrow_mut();
        let job = jobs.get_mut(id).ok_or_else(|| Error::NotFound(id.to_owned()))?;
        if job.has_ended() {
            return Ok(false);
        }
        let mut stops_left = self.stops_until_ended.borrow_mut();
        match stops_left.get_mut(id) {
            Some(0) => {}
            Some(stops @ 2..) => *stops -= 1,
            _ => "STOPPED".clone_into(&mut job.status),
        }
        Ok(true)
    }
}

impl RayJobs for FakeRay {
    fn limited(self, _policy: Policy, _timeouts: Option<Timeouts>) -> Self {
        self
    }

    fn version(&self) -> Result<Version, Error> {
        self.read("version".to_owned())?;
        if self.fail_version.get() {
            return Err(Error::unavailable("500", true));
        }
        Ok(Version { session_name: self.session.borrow().clone(), ..Version::default() })
    }

    fn submit(&self, job: &Submission) -> Result<String, Error> {
        self.submissions.borrow_mut().push(job.clone());
        self.call(format!("submit {}", job.submission_id));
        if let Some(session) = self.restart.borrow_mut().take() {
            self.restart(&session);
        }
        match self.outcomes.borrow_mut().pop_front() {
            Some(SubmitOutcome::Lost) => {
                self.make(job);
                Err(Error::unavailable("no answer", true))
            }
            Some(SubmitOutcome::Dropped) => Err(Error::unavailable("no answer", true)),
            Some(SubmitOutcome::Refused) => Err(Error::unavailable("connection refused", false)),
            Some(SubmitOutcome::Invalid) => Err(Error::backend(400, "Refused", "no such thing")),
            None if self.jobs.borrow().contains_key(&job.submission_id) => {
                Err(Error::backend(400, "Refused", "already exists"))
            }
            None => {
                self.make(job);
                Ok(job.submission_id.clone())
            }
        }
    }

    fn get(&self, submission_id: &str) -> Result<Job, Error> {
        self.read(format!("get {submission_id}"))?;
        let jobs = self.jobs.borrow();
        jobs.get(submission_id).cloned().ok_or_else(|| Error::NotFound(submission_id.to_owned()))
    }

    fn list(&self) -> Result<Vec<Job>, Error> {
        self.read("list".to_owned())?;
        Ok(self.jobs.borrow().values().cloned().collect())
    }

    fn get_many(&self, ids: &[String]) -> Vec<Result<Job, Error>> {
        ids.iter().map(|id| self.get(id)).collect()
    }

    fn are_nodes_dead(&self, ids: &[String]) -> Vec<Result<bool, Error>> {
        ids.iter()
            .map(|id| {
                self.read(format!("node {id}"))?;
                if self.fail_nodes.get() {
                    return Err(Error::backend(404, "Not Found", "no State API"));
                }
                Ok(self.is_node_dead.get())
            })
            .collect()
    }

    fn stop_many(&self, ids: &[String]) -> Vec<Result<bool, Error>> {
        self.call(format!("stop {}", ids.join(" ")));
        ids.iter().map(|id| self.stop(id)).collect()
    }

    fn delete(&self, id: &str) -> Result<bool, Error> {
        self.call(format!("delete {id}"));
        Ok(self.jobs.borrow_mut().remove(id).is_some())
    }

    fn logs(&self, id: &str) -> Result<String, Error> {
        self.read(format!("logs {id}"))?;
        if self.fail_logs.get() {
            return Err(Error::unavailable("cannot connect to the agent", false));
        }
        // One line ends with a carriage return, as a progress bar's does.
        Ok((1..=300).map(|line| format!("line {line}{}\n", if line == 7 { "\r" } else { "" })).collect())
    }

    fn follow_logs(
        &self,
        id: &str,
        follow: &FollowOptions,
        next: &mut dyn FnMut() -> FollowAction,
        deliver: &mut dyn FnMut(Vec<Vec<u8>>),
    ) -> Result<FollowResult, Error> {
        self.read(format!("follow {id}"))?;
        let log = self.log.borrow();
        if log.is_empty() {
            return Err(Error::unavailable("500", false));
        }
        let opened = (self.streams.get() + 1).min(log.len());
        self.streams.set(opened);
        let all = log[..opened].concat();
        let from = usize::try_from(follow.from).expect("a position");
        let mut lines = Lines::default();
        let whole = lines.push(&all.as_bytes()[from..]);
        let mut position = follow.from + whole.iter().map(|line| line.len() as u64 + 1).sum::<u64>();
        if !whole.is_empty() {
            deliver(whole);
        }
        if next() == FollowAction::Stop {
            return Ok(FollowResult { position, end: FollowEnd::Stopped });
        }
        if opened < log.len() {
            return Ok(FollowResult { position, end: FollowEnd::Broken(Error::unavailable("reset", false)) });
        }
        if let Some(tail) = lines.finish() {
            position += tail.len() as u64;
            deliver(vec![tail]);
        }
        Ok(FollowResult { position, end: FollowEnd::Complete })
    }

    fn prepare_runtime_env(&self, env: Value) -> Result<Value, Error> {
        Ok(env)
    }

    fn dashboard_url(&self, id: &str) -> String {
        format!("http://ray:8265/#/jobs/{id}")
    }
}
