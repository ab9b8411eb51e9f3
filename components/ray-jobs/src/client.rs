//! The client of Ray's Jobs API.

use dagster_ray_sdk::{
    Error,
    clock::{Clock, WasiClock},
    error::malformed_response,
    http::{Http, Request, Response, Timeouts, WasiHttp, url},
    json::{Fields, Value},
    retry::{Policy, Retries},
};

use crate::{
    Job, Submission, Version,
    logs::{self, FollowAction, FollowOptions, FollowResult},
    nodes,
    packages::{self, HostPackages, PackageRules, Packages},
    response::check_response,
};

/// The default port of Ray's dashboard, which serves the Jobs API.
pub const DASHBOARD_PORT: u16 = 8265;

/// The operations of Ray's Jobs API.
pub trait RayJobs {
    /// Returns the client with another retry policy, and with these timeouts for each request.
    ///
    /// Without timeouts, each request keeps those that suit it.
    #[must_use]
    fn limited(self, policy: Policy, timeouts: Option<Timeouts>) -> Self
    where
        Self: Sized;

    /// Returns the versions of Ray and its API: `GET /api/version`.
    fn version(&self) -> Result<Version, Error>;

    /// Submits a job with one `POST /api/jobs/`, and returns its submission id.
    ///
    /// There is no retry here: after a lost response, the caller has to check whether the job exists.
    /// A rejected submission, such as one whose id is taken, is [`Error::Backend`] with status 400. No
    /// response, or a 5xx of the head itself, is [`Error::Unavailable`].
    fn submit(&self, job: &Submission) -> Result<String, Error>;

    /// Returns one job: `GET /api/jobs/{id}`. Transient failures are retried.
    ///
    /// A job that Ray does not know is [`Error::NotFound`].
    fn get(&self, submission_id: &str) -> Result<Job, Error>;

    /// Returns all jobs: `GET /api/jobs/`. The list includes drivers that were not submitted as jobs;
    /// they have no submission id.
    fn list(&self) -> Result<Vec<Job>, Error>;

    /// Returns many jobs, in the order of their ids. It sends one concurrent request for each.
    fn get_many(&self, ids: &[String]) -> Vec<Result<Job, Error>>;

    /// Returns whether nodes are dead, in the order of their ids. It sends one concurrent request of Ray's State
    /// API for each, `GET /api/v0/nodes`, without retries. A node that Ray does not list is not known to be dead.
    fn are_nodes_dead(&self, ids: &[String]) -> Vec<Result<bool, Error>>;

    /// Stops many jobs concurrently: `POST /api/jobs/{id}/stop`. The results are in the order of the
    /// ids; `false` means that the job had already ended.
    fn stop_many(&self, ids: &[String]) -> Vec<Result<bool, Error>>;

    /// Deletes Ray's record of a job that has ended: `DELETE /api/jobs/{id}`.
    fn delete(&self, id: &str) -> Result<bool, Error>;

    /// Deletes Ray's records of many jobs concurrently. The results are in the order of the ids.
    fn delete_many(&self, ids: &[String]) -> Vec<Result<bool, Error>> {
        ids.iter().map(|id| self.delete(id)).collect()
    }

    /// Returns a job's whole output so far: `GET /api/jobs/{id}/logs`.
    fn logs(&self, id: &str) -> Result<String, Error>;

    /// Delivers a job's output over one connection, each line once and in order.
    ///
    /// `next` is called about once a second and decides how to continue; it can check the job and whether
    /// the call was canceled. An error means that following did not start.
    fn follow_logs(
        &self,
        id: &str,
        follow: &FollowOptions,
        next: &mut dyn FnMut() -> FollowAction,
        deliver: &mut dyn FnMut(Vec<Vec<u8>>),
    ) -> Result<FollowResult, Error>;

    /// Uploads the local directories and files that a runtime environment names, and replaces them with
    /// their `gcs://` URIs. Packages that Ray already has are not uploaded again.
    fn prepare_runtime_env(&self, env: Value) -> Result<Value, Error>;

    /// Returns the URL of a job's page in Ray's dashboard.
    fn dashboard_url(&self, id: &str) -> String;
}

/// A client of Ray's Jobs API over HTTP.
pub struct JobsClient<H = WasiHttp, C = WasiClock, P = HostPackages> {
    pub(crate) address: String,
    pub(crate) http: H,
    pub(crate) clock: C,
    packages: P,
    rules: PackageRules,
    policy: Policy,
    timeouts: Option<Timeouts>,
}

impl<H: Http, C: Clock> JobsClient<H, C> {
    /// Creates a client for a dashboard address, such as `http://head:8265`.
    pub fn new(address: &str, http: H, clock: C) -> Result<Self, Error> {
        let address = address.trim().trim_end_matches('/');
        let parts = url::split(address, "address")?;
        if parts.path.contains(['?', '#']) {
            return Err(Error::invalid(
                "address",
                &format!("`{address}` contains a query or a fragment"),
                Some("write http://host:port or https://host:port"),
            ));
        }
        Ok(Self {
            address: address.to_owned(),
            http,
            clock,
            packages: HostPackages,
            rules: PackageRules::default(),
            policy: Policy::default(),
            timeouts: None,
        })
    }
}

impl<H: Http, C: Clock, P: Packages> JobsClient<H, C, P> {
    /// Sets the source of local directories and files.
    #[must_use]
    pub fn with_packages<Q: Packages>(self, packages: Q) -> JobsClient<H, C, Q> {
        let Self { address, http, clock, rules, policy, timeouts, .. } = self;
        JobsClient { address, http, clock, packages, rules, policy, timeouts }
    }

    /// Sets which files packages exclude, and the size limit of packages.
    #[must_use]
    pub fn with_rules(mut self, rules: PackageRules) -> Self {
        self.rules = rules;
        self
    }

    /// Sets the retry policy of idempotent requests.
    #[must_use]
    pub fn with_retry(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Returns the dashboard's address without a trailing slash.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    /// Returns a request within the client's timeouts, if it has any.
    fn limit(&self, request: Request) -> Request {
        match self.timeouts {
            Some(timeouts) => request.timeouts(timeouts),
            None => request,
        }
    }

    fn job_path(&self, id: &str, below: &str) -> String {
        self.url(&format!("/api/jobs/{}{below}", url::encode(id)))
    }

    /// Sends a request, with retries, and returns the JSON of the response.
    fn request_json(&self, request: &Request, missing: Option<&str>) -> Result<Value, Error> {
        let request = self.limit(request.clone());
        self.policy.retry(&self.clock, || read(self.http.send(request.clone()), &request, missing))
    }

    /// Sends a request for each job, and reads the responses.
    fn request_jobs<T>(
        &self,
        ids: &[String],
        request: impl Fn(&str) -> Request,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Vec<Result<T, Error>> {
        let requests: Vec<_> = ids.iter().map(|id| (self.limit(request(id)), no_job(id))).collect();
        let responses = self.request_many(&requests);
        requests
            .iter()
            .zip(responses)
            .map(|((request, _), response)| typed(request, read(&response?)))
            .collect()
    }

    /// Sends many requests concurrently, and retries those that failed with a transient error.
    ///
    /// Each request comes with the text of Ray's 404 that means not found.
    fn request_many(&self, requests: &[(Request, String)]) -> Vec<Result<Value, Error>> {
        let mut responses: Vec<Option<Result<Value, Error>>> = Vec::new();
        responses.resize_with(requests.len(), || None);
        let mut open: Vec<usize> = (0..requests.len()).collect();
        let mut retries = Retries::new(self.policy);
        while !open.is_empty() {
            let batch = open.iter().map(|&index| requests[index].0.clone()).collect();
            let mut again = Vec::new();
            let mut after_ms = None;
            for (index, sent) in std::mem::take(&mut open).into_iter().zip(self.http.send_all(batch)) {
                let (request, missing) = &requests[index];
                let response = read(sent, request, Some(missing));
                if let Err(error) = &response
                    && error.is_transient()
                {
                    after_ms = after_ms.max(error.retry_after_ms());
                    again.push(index);
                }
                responses[index] = Some(response);
            }
            if !again.is_empty() {
                let Some(wait) = retries.wait_after(&self.clock, after_ms) else { break };
                self.clock.sleep_ms(wait);
            }
            open = again;
        }
        // The first batch contains every index.
        responses.into_iter().flatten().collect()
    }
}

impl<H: Http, C: Clock, P: Packages> RayJobs for JobsClient<H, C, P> {
    fn limited(mut self, policy: Policy, timeouts: Option<Timeouts>) -> Self {
        self.policy = policy;
        self.timeouts = timeouts;
        self
    }

    fn version(&self) -> Result<Version, Error> {
        let request = Request::get(self.url("/api/version"));
        typed(&request, Version::read(&self.request_json(&request, None)?))
    }

    fn submit(&self, job: &Submission) -> Result<String, Error> {
        let request = Request::post(self.url("/api/jobs/"))
            // The head waits for an available agent before it responds.
            .timeouts(Timeouts { first_byte_ms: Some(60_000), ..Timeouts::default() })
            .json(&job.document());
        let response = read(self.http.send(request.clone()), &request, None)?;
        typed(&request, field(&response, "submission_id", Fields::string))
    }

    fn get(&self, submission_id: &str) -> Result<Job, Error> {
        let request = Request::get(self.job_path(submission_id, ""));
        typed(&request, Job::read(&self.request_json(&request, Some(&no_job(submission_id)))?))
    }

    fn list(&self) -> Result<Vec<Job>, Error> {
        // Ray reads every job from its store before the first byte.
        let timeouts = Timeouts { first_byte_ms: Some(60_000), ..Timeouts::default() };
        let request = Request::get(self.url("/api/jobs/")).timeouts(timeouts);
        let request = self.limit(request);
        let label = request.label();
        self.policy.retry(&self.clock, || {
            let mut checked = check_response(self.http.send(request.clone())?, request.method, &label, None)?;
            let mut jobs: Result<Vec<Job>, String> = Ok(Vec::new());
            // Ray can remember tens of thousands of jobs, which would not fit into memory as JSON.
            let mut keep = |element: Value| {
                if let Ok(read) = &mut jobs {
                    match Job::read(&element) {
                        Ok(job) => read.push(job),
                        Err(problem) => jobs = Err(problem),
                    }
                }
            };
            checked.json_elements(&invalid_response(&label), &Job::SKIPPED_FIELDS, &mut keep)?;
            checked.discard()?;
            typed(&request, jobs)
        })
    }

    fn get_many(&self, ids: &[String]) -> Vec<Result<Job, Error>> {
        self.request_jobs(ids, |id| Request::get(self.job_path(id, "")), Job::read)
    }

    fn are_nodes_dead(&self, ids: &[String]) -> Vec<Result<bool, Error>> {
        let requests: Vec<Request> =
            ids.iter().map(|id| self.limit(nodes::request(&self.address, id))).collect();
        let responses = self.http.send_all(requests.clone());
        let answers = requests.iter().zip(responses);
        answers.map(|(request, sent)| typed(request, nodes::is_dead(&read(sent, request, None)?))).collect()
    }

    fn stop_many(&self, ids: &[String]) -> Vec<Result<bool, Error>> {
        // Stopping is idempotent, so transient failures are retried.
        self.request_jobs(
            ids,
            |id| Request::post(self.job_path(id, "/stop")),
            |response| field(response, "stopped", Fields::bool),
        )
    }

    fn delete_many(&self, ids: &[String]) -> Vec<Result<bool, Error>> {
        let request = |id: &str| Request::delete(self.job_path(id, ""));
        self.request_jobs(ids, request, |response| field(response, "deleted", Fields::bool))
    }

    fn delete(&self, id: &str) -> Result<bool, Error> {
        let request = Request::delete(self.job_path(id, ""));
        let missing = no_job(id);
        let mut maybe_applied = false;
        self.policy.retry(&self.clock, || {
            match read(self.http.send(request.clone()), &request, Some(&missing)) {
                Ok(response) => typed(&request, field(&response, "deleted", Fields::bool)),
                // An earlier attempt deleted the job, and its response was lost.
                Err(Error::NotFound(_)) if maybe_applied => Ok(true),
                Err(error) => {
                    maybe_applied |= error.maybe_applied();
                    Err(error)
                }
            }
        })
    }

    fn logs(&self, id: &str) -> Result<String, Error> {
        let request = Request::get(self.job_path(id, "/logs"));
        typed(&request, field(&self.request_json(&request, Some(&no_job(id)))?, "logs", Fields::string))
    }

    fn follow_logs(
        &self,
        id: &str,
        follow: &FollowOptions,
        next: &mut dyn FnMut() -> FollowAction,
        deliver: &mut dyn FnMut(Vec<Vec<u8>>),
    ) -> Result<FollowResult, Error> {
        logs::follow(self, id, follow, next, deliver)
    }

    fn prepare_runtime_env(&self, env: Value) -> Result<Value, Error> {
        packages::prepare(env, &self.packages, &self.rules, self)
    }

    fn dashboard_url(&self, id: &str) -> String {
        self.url(&format!("/#/jobs/{}", url::encode(id)))
    }
}

impl<H: Http, C: Clock, P> packages::PackageStore for JobsClient<H, C, P> {
    fn exists(&self, name: &str) -> Result<bool, Error> {
        let request = Request::get(self.package(name));
        let missing = format!("Package gcs://{name} does not exist");
        let found = self.policy.retry(&self.clock, || {
            let response = self.http.send(request.clone())?;
            check_response(response, request.method, &request.label(), Some(&missing))?.discard()
        });
        match found {
            Ok(()) => Ok(true),
            Err(Error::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn put(&self, name: &str, size: u64, write: &mut packages::Writer<'_>) -> Result<(), Error> {
        let request = Request::put(self.package(name))
            .header("content-type", "application/octet-stream")
            .header("content-length", size.to_string())
            // Ray stores the package before it responds.
            .timeouts(Timeouts { first_byte_ms: Some(300_000), ..Timeouts::default() });
        self.policy.retry(&self.clock, || {
            let response = self.http.upload(request.clone(), write)?;
            check_response(response, request.method, &request.label(), None)?.discard()
        })
    }
}

impl<H, C, P> JobsClient<H, C, P> {
    fn package(&self, name: &str) -> String {
        format!("{}/api/packages/gcs/{}", self.address, url::encode(name))
    }
}

/// Returns the exact text of Ray's 404 for an unknown job.
fn no_job(id: &str) -> String {
    format!("Job {id} does not exist")
}

fn read(sent: Result<Response, Error>, request: &Request, missing: Option<&str>) -> Result<Value, Error> {
    let label = request.label();
    let mut checked = check_response(sent?, request.method, &label, missing)?;
    let response = checked.json(&invalid_response(&label), &Job::SKIPPED_FIELDS)?;
    checked.discard()?;
    Ok(response)
}

/// Returns a required field of a response.
fn field<'a, T>(
    response: &'a Value,
    name: &str,
    read: impl FnOnce(Fields<'a>, &str) -> Result<Option<T>, String>,
) -> Result<T, String> {
    Fields::required(name, read(Fields::from_value(response)?, name)?)
}

/// Turns a problem in a response into a contract error.
fn typed<T>(request: &Request, read: Result<T, String>) -> Result<T, Error> {
    read.map_err(|problem| malformed_response(&invalid_response(&request.label()), &problem))
}

fn invalid_response(label: &str) -> String {
    format!("{label}: the response is not valid for Ray's Jobs API")
}
