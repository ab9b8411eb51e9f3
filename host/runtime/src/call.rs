//! One call of one export, with its deadline, cancellation, reports and errors.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dagster_ray_policy::{Limits, Policy};
use serde_json::Value as Json;
use tokio::sync::{mpsc, oneshot};

use crate::audit::AuditedCall;
use crate::backend::Backend;
use crate::cancel::Cancel;
use crate::capability::objects::Value;
use crate::capability::{CallContext, Denials};
use crate::error::CallError;
use crate::export_kind;
use crate::exports::{self, Failure};
use crate::lanes::Slot;
use crate::loader::Loaded;
use crate::model::{Denial, Error};
use crate::report::{QueuedReport, Report, ReportSender, plain};
use crate::store;
use crate::usage::{Usage, UsageCounter};
use crate::{names, trap};

/// How long a component may clean up after a cancellation before the call is aborted.
const CLEAN_UP: Duration = Duration::from_secs(10);

/// Options of a call.
#[derive(Clone, Default)]
pub struct CallOptions {
    /// A timeout shorter than the component's limit.
    pub timeout: Option<Duration>,
    /// Values that the arguments refer to by index.
    pub values: Vec<Value>,
}

type Outcome = Result<CallResult, CallError>;

/// A call in progress. Dropping it does not stop the call; [`Call::cancel`] does.
pub struct Call {
    backend: Backend,
    cancel: Cancel,
    reports: mpsc::Receiver<QueuedReport>,
    progress: Progressing,
    usage: UsageCounter,
}

/// Where a call makes progress.
enum Progressing {
    /// On the threads of the host.
    Spawned(oneshot::Receiver<Outcome>),
    /// On the thread that waits for it, while it waits.
    Here(Pin<Box<dyn Future<Output = Outcome> + Send>>),
    /// The call has ended, and its reports may not all be read.
    Ended(Box<Outcome>),
}

/// The result of a call.
#[derive(Clone)]
pub struct CallResult {
    /// The result as JSON. It refers to values and errors by their index.
    pub json: Json,
    /// The values of the host's language that the result refers to.
    pub values: Vec<Value>,
    /// The errors of single elements of the result, such as one step of several.
    pub errors: Vec<Arc<CallError>>,
}

/// The result of [`Call::wait`].
pub enum Progress {
    /// A report of the call.
    Report(Report),
    /// The call has ended.
    Ended(Box<Result<CallResult, CallError>>),
    /// Nothing happened within the time given.
    Pending,
}

impl Call {
    /// Starts a call of `interface.function`. `arguments` is a JSON object of the parameters by name.
    pub fn begin(backend: &Backend, export: &str, arguments: &str, options: CallOptions) -> Self {
        let mut call = Self::begin_here(backend, export, arguments, options);
        call.spawn();
        call
    }

    /// Starts a call as [`Call::begin`] does, for a thread that waits for it at once. The call makes progress only
    /// in [`Call::wait`], which saves the changes between threads: two thirds of the time of a short call.
    pub fn begin_here(backend: &Backend, export: &str, arguments: &str, options: CallOptions) -> Self {
        let cancel = Cancel::default();
        let (report_sender, reports) = ReportSender::channel();
        let usage = UsageCounter::default();
        let task = CallTask {
            backend: backend.clone(),
            export: export.to_owned(),
            arguments: arguments.into(),
            cancel: cancel.clone(),
            timeout: options.timeout,
            values: options.values,
            is_queued: AtomicBool::new(false),
            usage: usage.clone(),
        };
        let progress = Progressing::Here(Box::pin(task.run(report_sender)));
        Self { backend: backend.clone(), cancel, reports, progress, usage }
    }

    /// Lets the call make progress on the threads of the host.
    fn spawn(&mut self) {
        let (sender, outcome) = oneshot::channel();
        if !matches!(self.progress, Progressing::Here(_)) {
            return;
        }
        if let Progressing::Here(call) = std::mem::replace(&mut self.progress, Progressing::Spawned(outcome))
        {
            self.backend.host().runtime().spawn(async move {
                let _ = sender.send(call.await);
            });
        }
    }

    /// Cancels the call. A component with a listener may clean up for a grace period; then the call is
    /// aborted.
    pub fn cancel(&mut self) {
        self.cancel.cancel();
        // Nobody may wait for the call from now on.
        self.spawn();
    }

    /// Waits for the next report or the end of the call, at most for `timeout`. All reports are
    /// returned before the end.
    pub fn wait(&mut self, backend: &Backend, timeout: Duration) -> Progress {
        let (reports, progress) = (&mut self.reports, &mut self.progress);
        let reported = backend.host().runtime().block_on(async {
            tokio::select! {
                biased;
                Some((report, _)) = reports.recv() => Some(Progress::Report(report)),
                () = progress.end() => None,
                () = tokio::time::sleep(timeout) => Some(Progress::Pending),
            }
        });
        if let Some(reported) = reported {
            return reported;
        }
        // The end of the call may have come with reports.
        match (self.reports.try_recv(), &mut self.progress) {
            (Ok((report, _)), _) => Progress::Report(report),
            (Err(_), Progressing::Ended(outcome)) => {
                Progress::Ended(std::mem::replace(outcome, Box::new(Err(shut_down()))))
            }
            (Err(_), _) => Progress::Pending,
        }
    }

    /// Returns what the call has asked of the host so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage.usage()
    }

    /// Waits for the end of the call and discards its reports.
    ///
    /// # Errors
    /// If the call fails.
    pub fn finish(mut self, backend: &Backend) -> Result<Json, CallError> {
        loop {
            if let Progress::Ended(outcome) = self.wait(backend, Duration::from_secs(3600)) {
                return outcome.map(|result| result.json);
            }
        }
    }
}

impl Progressing {
    /// Waits for the end of the call.
    async fn end(&mut self) {
        let outcome = match self {
            Self::Spawned(outcome) => outcome.await.unwrap_or_else(|_| Err(shut_down())),
            Self::Here(call) => call.await,
            Self::Ended(_) => return,
        };
        *self = Self::Ended(Box::new(outcome));
    }
}

/// Returns the error of a call whose host has stopped.
fn shut_down() -> CallError {
    CallError::Cancelled { component: "host".into(), export: "shutdown".into() }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.spawn();
    }
}

struct CallTask {
    backend: Backend,
    export: String,
    arguments: Arc<str>,
    cancel: Cancel,
    timeout: Option<Duration>,
    values: Vec<Value>,
    /// Whether the call waits for other calls of the process.
    is_queued: AtomicBool,
    usage: UsageCounter,
}

impl CallTask {
    async fn run(mut self, reports: ReportSender) -> Result<CallResult, CallError> {
        let began = Instant::now();
        let (loaded, policy) = self.load().await?;
        let limits = &loaded.manifest.limits;
        let limit = limits.wall_clock(export_kind::is_long_running(&self.export));
        // The caller's timeout includes the load. The component's limit does not, because the file is loaded once.
        let remaining =
            self.timeout.map_or(limit, |timeout| timeout.saturating_sub(began.elapsed()).min(limit));
        let timeout = self.timeout.map_or(limit, |timeout| timeout.min(limit));
        let (component, export) = (loaded.manifest.id.clone(), self.export.clone());
        let values = std::mem::take(&mut self.values);
        let audited =
            AuditedCall::new(&component, &loaded.digest, &export, self.arguments.clone(), self.usage.clone());
        // Only a component with a listener can notice the cancellation and clean up.
        let grace = if export_kind::has_listener(&self.export) { CLEAN_UP } else { Duration::ZERO };
        tokio::select! {
            biased;
            outcome = audited.scope(self.call(&loaded, &policy, reports, values)) => outcome,
            () = tokio::time::sleep(remaining) => Err(CallError::Deadline {
                component,
                export,
                seconds: timeout.as_secs_f64(),
                is_queued: self.is_queued.load(Ordering::Acquire),
            }),
            () = async { self.cancel.cancelled().await; tokio::time::sleep(grace).await } => {
                Err(CallError::Cancelled { component, export })
            }
        }
    }

    /// Loads the component within the call's timeout, or until the call is canceled.
    async fn load(&self) -> Result<(Arc<Loaded>, Arc<Policy>), CallError> {
        if let Some(loaded) = self.backend.unchanged() {
            return Ok(loaded);
        }
        let (component, export) = (self.backend.file_name(), self.export.clone());
        let limit = Limits::default().wall_clock(false);
        let timeout = self.timeout.map_or(limit, |timeout| timeout.min(limit));
        tokio::select! {
            biased;
            loaded = self.backend.load() => match loaded {
                Ok(loaded) => Ok(loaded?),
                Err(error) => Err(CallError::Trap {
                    component,
                    export,
                    reason: format!("the host failed while loading the component: {error}"),
                    stderr: String::new(),
                }),
            },
            () = tokio::time::sleep(timeout) => {
                let seconds = timeout.as_secs_f64();
                Err(CallError::Deadline { component, export, seconds, is_queued: false })
            }
            () = self.cancel.cancelled() => Err(CallError::Cancelled { component, export }),
        }
    }

    async fn call(
        &self,
        loaded: &Loaded,
        policy: &Arc<Policy>,
        reports: ReportSender,
        values: Vec<Value>,
    ) -> Result<CallResult, CallError> {
        let interface = self.export.split('.').next().unwrap_or_default();
        if !loaded.introspection.interfaces.iter().any(|offered| offered.name() == interface) {
            return Err(self.not_offered(loaded));
        }
        if !loaded.has_warned.swap(true, Ordering::AcqRel) {
            for warning in &loaded.warnings {
                reports.warn(warning.clone()).await;
            }
        }
        let host = self.backend.host();
        let slot = self.enter(&loaded.manifest.id).await?;
        let _tick_guard = host.tick_guard();
        let reports = reports.with_limit((loaded.manifest.limits.log_kib as usize) << 10);
        let denials = Denials::default();
        let context = CallContext {
            shared: host.shared(),
            manifest: &loaded.manifest,
            options: self.backend.options(),
            policy,
            denials: &denials,
            reports: &reports,
            cancel: &self.cancel,
            slot: &slot,
            usage: &self.usage,
        };
        let mut store = store::new_store(host.engine(), &context);
        let result = match loaded.instance.instantiate_async(&mut store).await {
            Ok(instance) => exports::call(&mut store, &instance, &self.export, &self.arguments, values).await,
            Err(error) => Err(Failure::Trapped(error)),
        };
        match result {
            Ok(answer) => {
                let element = |error| Arc::new(self.returned(with_grant(error, denials.last()), loaded));
                let errors = answer.errors.into_iter().map(element).collect();
                Ok(CallResult { json: answer.json, values: answer.values, errors })
            }
            Err(failure) => Err(self.explain(failure, loaded, &denials, &store.data().stderr.contents())),
        }
    }

    /// Waits until the call may run. A canceled call does not wait.
    async fn enter(&self, component: &str) -> Result<Slot, CallError> {
        self.is_queued.store(true, Ordering::Release);
        let slot = tokio::select! {
            biased;
            () = self.cancel.cancelled() => {
                let (component, export) = (component.to_owned(), self.export.clone());
                return Err(CallError::Cancelled { component, export });
            }
            slot = self.backend.host().shared().lanes.enter(&self.export) => slot,
        };
        self.is_queued.store(false, Ordering::Release);
        Ok(slot)
    }

    fn returned(&self, error: Error, loaded: &Loaded) -> CallError {
        CallError::Returned {
            component: loaded.manifest.id.clone(),
            export: self.export.clone(),
            error: Box::new(error),
            is_restricted: loaded.is_restricted,
        }
    }

    fn not_offered(&self, loaded: &Loaded) -> CallError {
        let offered: Vec<_> =
            loaded.introspection.interfaces.iter().map(|interface| interface.name()).collect();
        CallError::NotOffered {
            component: loaded.manifest.id.clone(),
            export: self.export.clone(),
            offered: offered.join(", "),
        }
    }

    fn explain(&self, failure: Failure, loaded: &Loaded, denials: &Denials, stderr: &[u8]) -> CallError {
        let (component, export) = (loaded.manifest.id.clone(), self.export.clone());
        match failure {
            Failure::NotOffered => self.not_offered(loaded),
            Failure::Arguments(problem) => CallError::Arguments { component, export, problem },
            Failure::Returned(error) => self.returned(with_grant(error, denials.last()), loaded),
            Failure::Trapped(error) => CallError::Trap {
                component,
                export,
                reason: trap::reason(&error, &loaded.manifest.limits, || {
                    names::read_names(self.backend.path(), &loaded.digest)
                }),
                stderr: plain(String::from_utf8_lossy(stderr).into_owned()),
            },
        }
    }
}

/// Adds the missing grant to a denial. WASI interfaces report a denial without details.
fn with_grant(mut error: Error, known: Option<Denial>) -> Error {
    if let Error::Denied(denial) = &mut error
        && denial.grant.is_empty()
        && let Some(known) = known
    {
        *denial = known;
    }
    error
}
