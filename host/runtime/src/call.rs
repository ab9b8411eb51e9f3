//! One call of one export, with its deadline, cancellation, reports and errors.

use std::sync::Arc;
use std::sync::atomic::Ordering;
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
use crate::exports::{self, Failure};
use crate::loader::Loaded;
use crate::model::{Denial, Error};
use crate::report::{QueuedReport, Report, ReportSender, plain};
use crate::store;
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

/// A call in progress. Dropping it does not stop the call; [`Call::cancel`] does.
pub struct Call {
    cancel: Cancel,
    reports: mpsc::Receiver<QueuedReport>,
    outcome: oneshot::Receiver<Result<CallResult, CallError>>,
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
        let cancel = Cancel::default();
        let (report_sender, reports) = ReportSender::channel();
        let (sender, outcome) = oneshot::channel();
        let task = CallTask {
            backend: backend.clone(),
            export: export.to_owned(),
            arguments: arguments.into(),
            cancel: cancel.clone(),
            timeout: options.timeout,
            values: options.values,
        };
        let runtime = backend.host().runtime();
        runtime.spawn(async move {
            let _ = sender.send(task.run(report_sender).await);
        });
        Self { cancel, reports, outcome }
    }

    /// Cancels the call. A component with a listener may clean up for a grace period; then the call is
    /// aborted.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Waits for the next report or the end of the call, at most for `timeout`. All reports are
    /// returned before the end.
    pub fn wait(&mut self, backend: &Backend, timeout: Duration) -> Progress {
        backend.host().runtime().block_on(async {
            tokio::select! {
                biased;
                Some((report, _)) = self.reports.recv() => Progress::Report(report),
                outcome = &mut self.outcome => Progress::Ended(Box::new(outcome.unwrap_or_else(|_| {
                    Err(CallError::Cancelled { component: "host".into(), export: "shutdown".into() })
                }))),
                () = tokio::time::sleep(timeout) => Progress::Pending,
            }
        })
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

struct CallTask {
    backend: Backend,
    export: String,
    arguments: Arc<str>,
    cancel: Cancel,
    timeout: Option<Duration>,
    values: Vec<Value>,
}

impl CallTask {
    async fn run(mut self, reports: ReportSender) -> Result<CallResult, CallError> {
        let began = Instant::now();
        let (loaded, policy) = self.load().await?;
        let limits = &loaded.manifest.limits;
        let limit = limits.wall_clock(exports::is_long_running(&self.export));
        // The caller's timeout includes the load. The component's limit does not, because the file is loaded once.
        let remaining =
            self.timeout.map_or(limit, |timeout| timeout.saturating_sub(began.elapsed()).min(limit));
        let timeout = self.timeout.map_or(limit, |timeout| timeout.min(limit));
        let (component, export) = (loaded.manifest.id.clone(), self.export.clone());
        let values = std::mem::take(&mut self.values);
        let audited = AuditedCall::new(&component, &loaded.digest, &export, self.arguments.clone());
        // Only a component with a listener can notice the cancellation and clean up.
        let grace = if exports::has_listener(&self.export) { CLEAN_UP } else { Duration::ZERO };
        tokio::select! {
            biased;
            outcome = audited.scope(self.call(&loaded, &policy, reports, values)) => outcome,
            () = tokio::time::sleep(remaining) => Err(CallError::Deadline { component, export, seconds: timeout.as_secs_f64() }),
            () = async { self.cancel.cancelled().await; tokio::time::sleep(grace).await } => {
                Err(CallError::Cancelled { component, export })
            }
        }
    }

    /// Loads the component within the call's timeout, or until the call is canceled.
    async fn load(&self) -> Result<(Arc<Loaded>, Arc<Policy>), CallError> {
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
                Err(CallError::Deadline { component, export, seconds: timeout.as_secs_f64() })
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
        let _tick_guard = self.backend.host().tick_guard();
        let host = self.backend.host();
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
