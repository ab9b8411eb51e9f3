//! The client of Ray's Jobs API.

use dagster_ray_sdk::{
    Error,
    clock::{Clock, WasiClock},
    error::malformed,
    http::{Http, Request, Response, Timeouts, WasiHttp, url},
    json::{Fields, Value},
    retry::Policy,
};

use crate::{
    Job, Submission, Version,
    answers::accept,
    logs::{self, Follow, Followed, Next},
    packages::{self, HostPackages, PackageRules, Packages},
};

/// The operations of Ray's Jobs API.
pub trait RayJobs {
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

    /// Stops many jobs concurrently: `POST /api/jobs/{id}/stop`. The results are in the order of the
    /// ids; `false` means that the job had already ended.
    fn stop_many(&self, ids: &[String]) -> Vec<Result<bool, Error>>;

    /// Deletes Ray's record of a job that has ended: `DELETE /api/jobs/{id}`.
    fn delete(&self, id: &str) -> Result<bool, Error>;

    /// Returns a job's whole output so far: `GET /api/jobs/{id}/logs`.
    fn logs(&self, id: &str) -> Result<String, Error>;

    /// Delivers a job's output over one connection, each line once and in order.
    ///
    /// `next` is called about once a second and decides how to continue; it can check the job and whether
    /// the call was canceled. An error means that following did not start.
    fn follow_logs(
        &self,
        id: &str,
        follow: &Follow,
        next: &mut dyn FnMut() -> Next,
        deliver: &mut dyn FnMut(Vec<Vec<u8>>),
    ) -> Result<Followed, Error>;

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
    retry: Policy,
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
            retry: Policy::default(),
        })
    }
}

impl<H: Http, C: Clock, P: Packages> JobsClient<H, C, P> {
    /// Sets the source of local directories and files.
    #[must_use]
    pub fn with_packages<Q: Packages>(self, packages: Q) -> JobsClient<H, C, Q> {
        let Self { address, http, clock, rules, retry, .. } = self;
        JobsClient { address, http, clock, packages, rules, retry }
    }

    /// Sets which files packages exclude, and the size limit of packages.
    #[must_use]
    pub fn with_rules(mut self, rules: PackageRules) -> Self {
        self.rules = rules;
        self
    }

    /// Sets the retry policy of idempotent requests.
    #[must_use]
    pub fn with_retry(mut self, retry: Policy) -> Self {
        self.retry = retry;
        self
    }

    /// Returns the dashboard's address without a trailing slash.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    fn job_path(&self, id: &str, below: &str) -> String {
        self.at(&format!("/api/jobs/{}{below}", url::encode(id)))
    }

    /// Sends a request, with retries, and returns the JSON of the response.
    fn ask(&self, request: &Request, missing: Option<&str>) -> Result<Value, Error> {
        self.retry.run(&self.clock, || read(self.http.send(request.clone()), request, missing))
    }

    /// Sends many requests concurrently, and retries those that failed with a transient error.
    ///
    /// Each request comes with the text of Ray's 404 that means not found.
    fn ask_many(&self, requests: &[(Request, String)]) -> Vec<Result<Value, Error>> {
        let mut answers: Vec<Option<Result<Value, Error>>> = Vec::new();
        answers.resize_with(requests.len(), || None);
        let mut open: Vec<usize> = (0..requests.len()).collect();
        let mut attempt = 1;
        while !open.is_empty() {
            let batch = open.iter().map(|&index| requests[index].0.clone()).collect();
            let mut again = Vec::new();
            let mut wait = 0;
            for (index, sent) in std::mem::take(&mut open).into_iter().zip(self.http.send_all(batch)) {
                let (request, missing) = &requests[index];
                let answer = read(sent, request, Some(missing));
                if let Err(error) = &answer
                    && let Some(ms) = self.retry.wait_after(attempt, error)
                {
                    wait = wait.max(ms);
                    again.push(index);
                }
                answers[index] = Some(answer);
            }
            if !again.is_empty() {
                self.clock.sleep_ms(wait);
            }
            open = again;
            attempt += 1;
        }
        // The first batch contains every index.
        answers.into_iter().flatten().collect()
    }
}

impl<H: Http, C: Clock, P: Packages> RayJobs for JobsClient<H, C, P> {
    fn version(&self) -> Result<Version, Error> {
        let request = Request::get(self.at("/api/version"));
        typed(&request, Version::read(&self.ask(&request, None)?))
    }

    fn submit(&self, job: &Submission) -> Result<String, Error> {
        let request = Request::post(self.at("/api/jobs/"))
            // The head waits for an available agent before it responds.
            .timeouts(Timeouts { first_byte_ms: Some(60_000), ..Timeouts::default() })
            .json(&job.document());
        let answer = read(self.http.send(request.clone()), &request, None)?;
        typed(&request, field(&answer, "submission_id", Fields::text))
    }

    fn get(&self, submission_id: &str) -> Result<Job, Error> {
        let request = Request::get(self.job_path(submission_id, ""));
        typed(&request, Job::read(&self.ask(&request, Some(&no_job(submission_id)))?))
    }

    fn list(&self) -> Result<Vec<Job>, Error> {
        // Ray reads every job from its store before the first byte.
        let timeouts = Timeouts { first_byte_ms: Some(60_000), ..Timeouts::default() };
        let request = Request::get(self.at("/api/jobs/")).timeouts(timeouts);
        let answer = self.ask(&request, None)?;
        let Some(jobs) = answer.as_array() else {
            return typed(&request, Err("the body is not a list".to_owned()));
        };
        typed(&request, jobs.iter().map(Job::read).collect())
    }

    fn get_many(&self, ids: &[String]) -> Vec<Result<Job, Error>> {
        let requests: Vec<_> =
            ids.iter().map(|id| (Request::get(self.job_path(id, "")), no_job(id))).collect();
        let answers = self.ask_many(&requests);
        requests
            .iter()
            .zip(answers)
            .map(|((request, _), answer)| typed(request, Job::read(&answer?)))
            .collect()
    }

    fn stop_many(&self, ids: &[String]) -> Vec<Result<bool, Error>> {
        // Stopping is idempotent, so transient failures are retried.
        let requests: Vec<_> =
            ids.iter().map(|id| (Request::post(self.job_path(id, "/stop")), no_job(id))).collect();
        let answers = self.ask_many(&requests);
        requests
            .iter()
            .zip(answers)
            .map(|((request, _), answer)| typed(request, field(&answer?, "stopped", Fields::flag)))
            .collect()
    }

    fn delete(&self, id: &str) -> Result<bool, Error> {
        let request = Request::delete(self.job_path(id, ""));
        let missing = no_job(id);
        let mut maybe_applied = false;
        self.retry.run(&self.clock, || {
            match read(self.http.send(request.clone()), &request, Some(&missing)) {
                Ok(answer) => typed(&request, field(&answer, "deleted", Fields::flag)),
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
        typed(&request, field(&self.ask(&request, Some(&no_job(id)))?, "logs", Fields::text))
    }

    fn follow_logs(
        &self,
        id: &str,
        follow: &Follow,
        next: &mut dyn FnMut() -> Next,
        deliver: &mut dyn FnMut(Vec<Vec<u8>>),
    ) -> Result<Followed, Error> {
        logs::follow(self, id, follow, next, deliver)
    }

    fn prepare_runtime_env(&self, env: Value) -> Result<Value, Error> {
        packages::prepare(env, &self.packages, &self.rules, self)
    }

    fn dashboard_url(&self, id: &str) -> String {
        self.at(&format!("/#/jobs/{}", url::encode(id)))
    }
}

impl<H: Http, C: Clock, P> packages::Store for JobsClient<H, C, P> {
    fn exists(&self, name: &str) -> Result<bool, Error> {
        let request = Request::get(self.package(name));
        let missing = format!("Package gcs://{name} does not exist");
        let found = self.retry.run(&self.clock, || {
            let response = self.http.send(request.clone())?;
            accept(response, request.method, &request.label(), Some(&missing))?.discard()
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
        self.retry.run(&self.clock, || {
            let response = self.http.upload(request.clone(), write)?;
            accept(response, request.method, &request.label(), None)?.discard()
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
    let mut response = accept(sent?, request.method, &label, missing)?;
    let answer = response.json(&invalid_response(&label), &Job::LEFT_OUT)?;
    response.discard()?;
    Ok(answer)
}

/// Returns a required field of a response.
fn field<'a, T>(
    answer: &'a Value,
    name: &str,
    read: impl FnOnce(Fields<'a>, &str) -> Result<Option<T>, String>,
) -> Result<T, String> {
    Fields::required(name, read(Fields::of(answer)?, name)?)
}

/// Turns a problem in a response into a contract error.
fn typed<T>(request: &Request, read: Result<T, String>) -> Result<T, Error> {
    read.map_err(|problem| malformed(&invalid_response(&request.label()), &problem))
}

fn invalid_response(label: &str) -> String {
    format!("{label}: the response is not valid for Ray's Jobs API")
}
