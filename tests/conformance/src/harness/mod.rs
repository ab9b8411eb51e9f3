//! A loaded component under test, with an intercepted network and a value store in memory.

mod call_result;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dagster_ray_recording::{FaultInjector, InjectedFault};
use dagster_ray_runtime::capability::objects::{ObjectStore, Value};
use dagster_ray_runtime::manifest::Manifest;
use dagster_ray_runtime::model::{Error, FieldError};
use dagster_ray_runtime::{
    Authority, AuthorityOptions, Backend, BackendOptions, Call, CallError, CallOptions, Clock, Host,
    HostOptions, LoadError, Progress, Report,
};
use http::StatusCode;
use serde_json::{Map, Value as Json, json};

pub(crate) use self::call_result::{CallResult, describe_error};
use crate::memory_store::MemoryStore;
use crate::network::{FAST, Network, NetworkCondition, RecordedRequest};
use crate::schema::Schema;
use crate::shared_objects::SharedObjects;
use crate::specs::SECRET;
use crate::subject::Subject;

/// The setting of the built-in backends with the limits of waiting, and short limits.
const PATIENCE: &str = "patience";
const SHORT_PATIENCE: &str = r#"{"request_seconds": 5, "unreachable_seconds": 5}"#;
/// The address of a Ray that does not exist. The interceptor responds to every request to it.
const PLACEHOLDER_ADDRESS: &str = "http://conformance.invalid:8265";
/// The timeout of one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(600);
/// The time after which a call of `pipes` is canceled.
pub(crate) const PIPES_TIMEOUT: Duration = Duration::from_secs(300);
/// The time after which a call of `pipes` is canceled while no request is sent.
const UNREACHABLE: Duration = Duration::from_secs(5);
/// A component under test.
pub(crate) struct Harness {
    backend: Backend,
    /// The same component without settings.
    bare: Backend,
    component: String,
    exports: Vec<&'static str>,
    network: Arc<Network>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) has_service: bool,
    description: OnceCell<Option<Json>>,
    /// The names of the settings that were given.
    given: BTreeSet<String>,
    options: BTreeMap<String, Map<String, Json>>,
    stop: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
    leaks: RefCell<Vec<String>>,
    cleanups: RefCell<Vec<(&'static str, Json)>>,
    is_cleaning: Cell<bool>,
    pub(crate) shared: SharedObjects,
}

impl Harness {
    pub(crate) fn new(subject: &Subject) -> Result<Self, LoadError> {
        let network = Arc::new(Network::default());
        let is_offline = !subject.has_service || subject.is_replayed;
        let injector = FaultInjector::new(network.clone(), subject.interceptor.clone());
        let host = Host::start_with(HostOptions {
            interceptor: Some(Arc::new(injector)),
            clock: Some(if is_offline { Arc::new(FAST) as Arc<dyn Clock> } else { network.clone() }),
            ..HostOptions::default()
        })?;
        let store = Arc::new(MemoryStore::default());
        let mut options = subject.backend.clone();
        for name in Manifest::for_component(&options.path)?.grants.objects {
            options.stores.entry(name).or_insert_with(|| store.clone() as Arc<dyn ObjectStore>);
        }
        let bare = Backend::new(
            host.clone(),
            BackendOptions {
                path: options.path.clone(),
                restriction: options.restriction.clone(),
                sha256: options.sha256.clone(),
                ..BackendOptions::default()
            },
        );
        let (component, _, exports) = bare.describe()?;
        let mut harness = Self {
            backend: bare.clone(),
            bare,
            component,
            exports,
            network,
            store,
            has_service: subject.has_service,
            description: OnceCell::new(),
            given: BTreeSet::new(),
            options: subject.options.clone(),
            stop: subject.stop.clone(),
            leaks: RefCell::default(),
            cleanups: RefCell::default(),
            is_cleaning: Cell::new(false),
            shared: SharedObjects::default(),
        };
        if !harness.has_service {
            harness.add_placeholder_address(&mut options);
        }
        harness.given = options.settings.keys().cloned().collect();
        harness.limit_patience(&mut options);
        harness.backend = Backend::new(host, options);
        // Cached here, because the call changes the network condition and a rule may need it at any time.
        harness.description();
        Ok(harness)
    }

    /// Shortens the time for which a component repeats failed requests, if it has such a setting: rules answer
    /// with errors all the time.
    fn limit_patience(&self, options: &mut BackendOptions) {
        if self.reads_setting(PATIENCE) {
            options.settings.entry(PATIENCE.to_owned()).or_insert_with(|| SHORT_PATIENCE.to_owned());
        }
    }

    /// Adds an address for a component that requires one. No request is sent to it.
    fn add_placeholder_address(&self, options: &mut BackendOptions) {
        if self.reads_setting("address") {
            options.settings.entry("address".to_owned()).or_insert_with(|| PLACEHOLDER_ADDRESS.to_owned());
        }
        for url in [PLACEHOLDER_ADDRESS, "http://127.0.0.1:8265"] {
            let made = serde_json::from_value::<AuthorityOptions>(json!({"url": url}));
            if let Some(authority) = made.ok().and_then(|made| Authority::new(made).ok()) {
                options.authorities.push(authority);
            }
        }
    }

    pub(crate) fn component(&self) -> String {
        self.component.clone()
    }

    pub(crate) fn exports(&self, interface: &str) -> bool {
        self.exports.contains(&interface)
    }

    pub(crate) fn exported(&self) -> &[&'static str] {
        &self.exports
    }

    /// Returns the component's description, or `None` if it has none.
    pub(crate) fn description(&self) -> Option<&Json> {
        let card = self.description.get_or_init(|| {
            if !self.exports("describe") {
                return None;
            }
            self.offline(InjectedFault::Refuse);
            self.call_bare("describe.describe").result.ok()
        });
        card.as_ref()
    }

    /// Returns what the caller has to give, if each field of an `invalid-config` is a setting or an option
    /// that the component requires by its description and that was not given. Otherwise `None`.
    fn missing_required(&self, export: &str, fields: &[FieldError]) -> Option<String> {
        let interface = export.split('.').next().unwrap_or_default();
        let (schema, given) = (self.schema(interface), self.options(interface));
        let required = schema.as_ref().map(Schema::required).unwrap_or_default();
        let name = |field: &FieldError| {
            let path = field.path.as_str();
            if self.reads_setting(path) && !self.given.contains(path) {
                return Some(format!("the setting {path} (--setting {path}=…)"));
            }
            let is_option = required.contains(&path) && !given.contains_key(path);
            is_option.then(|| format!("the option {path} of {interface} (--options FILE)"))
        };
        let names: Vec<_> = fields.iter().map(name).collect::<Option<_>>()?;
        (!names.is_empty()).then(|| format!("needs {}", names.join(", ")))
    }

    /// Returns whether the component's description lists this setting.
    fn reads_setting(&self, name: &str) -> bool {
        let settings = self.description().and_then(|card| card.get("settings"));
        settings.is_some_and(|all| all.get(name).is_some())
    }

    /// Returns the JSON schema of an interface's options, if the component publishes one.
    pub(crate) fn schema(&self, interface: &str) -> Option<Schema> {
        let text = self.description()?.get("options")?.get(interface)?;
        match text {
            Json::String(text) => Schema::new(text).ok(),
            document => Schema::new(&document.to_string()).ok(),
        }
    }

    /// Returns the options that the specs of an interface start from.
    pub(crate) fn options(&self, interface: &str) -> Map<String, Json> {
        self.options.get(interface).cloned().unwrap_or_default()
    }

    /// Injects this fault into each request from now on. No request is sent.
    pub(crate) fn offline(&self, fault: InjectedFault) {
        self.network.set(NetworkCondition::Fault(fault));
    }

    /// Answers each request with this status from now on. No request is sent.
    pub(crate) fn answering(&self, status: StatusCode) {
        self.offline(InjectedFault::Respond(status, "injected by the conformance tests".to_owned()));
    }

    /// Sets the network condition.
    pub(crate) fn set_network(&self, condition: NetworkCondition) {
        self.network.set(condition);
    }

    /// Returns the requests since the network condition was set.
    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        self.network.requests()
    }

    /// Calls an export.
    pub(crate) fn call(&self, export: &str, arguments: &Json) -> CallResult {
        self.call_with(&self.backend, export, arguments, Vec::new())
    }

    /// Calls an export with values.
    pub(crate) fn call_values(&self, export: &str, arguments: &Json, values: Vec<Value>) -> CallResult {
        self.call_with(&self.backend, export, arguments, values)
    }

    /// Plans or launches one step. The result is the reference of its job, or its placement if it has no job.
    pub(crate) fn step(&self, export: &str, spec: &Json) -> CallResult {
        let called = self.call(export, &json!({"steps": [spec]}));
        let (result, mut errors) = (called.result, called.errors);
        let result = match result {
            Ok(_) if !errors.is_empty() => Err(errors.remove(0)),
            Ok(Json::Array(mut placements)) if placements.len() == 1 => {
                let placement = placements.remove(0);
                Ok(placement.get("job").cloned().unwrap_or(placement))
            }
            other => other,
        };
        self.called(export, result, errors, called.values, called.reports)
    }

    /// Calls an export that takes no parameters, on the component without settings.
    pub(crate) fn call_bare(&self, export: &str) -> CallResult {
        self.call_with(&self.bare, export, &json!({}), Vec::new())
    }

    fn call_with(&self, backend: &Backend, export: &str, arguments: &Json, values: Vec<Value>) -> CallResult {
        let options = CallOptions { timeout: Some(CALL_TIMEOUT), values };
        let mut call = Call::begin(backend, export, &arguments.to_string(), options);
        let began = Instant::now();
        let mut reports = Vec::new();
        let (result, errors, values) = loop {
            let limit = if self.network.is_offline() { UNREACHABLE } else { PIPES_TIMEOUT };
            let is_late = export.starts_with("pipes.") && began.elapsed() > limit;
            if is_late || (!self.is_cleaning.get() && self.stop.as_ref().is_some_and(|stop| stop())) {
                call.cancel();
            }
            match call.wait(backend, Duration::from_secs(1)) {
                Progress::Report(report) => reports.push(report),
                Progress::Ended(outcome) => match *outcome {
                    Ok(answer) => {
                        let errors = answer.errors.into_iter().filter_map(Arc::into_inner).collect();
                        break (Ok(answer.json), errors, answer.values);
                    }
                    Err(error) => break (Err(error), Vec::new(), Vec::new()),
                },
                Progress::Pending => {}
            }
        };
        let called = self.called(export, result, errors, values, reports);
        self.record_leaks(&called);
        called
    }

    fn called(
        &self,
        export: &str,
        result: Result<Json, CallError>,
        errors: Vec<CallError>,
        values: Vec<Value>,
        reports: Vec<Report>,
    ) -> CallResult {
        let missing_required = match &result {
            Err(CallError::Returned { error, .. }) if let Error::InvalidConfig(fields) = error.as_ref() => {
                self.missing_required(export, fields)
            }
            _ => None,
        };
        CallResult { export: export.to_owned(), result, errors, values, reports, missing_required }
    }

    fn record_leaks(&self, called: &CallResult) {
        let mut texts: Vec<String> = Vec::new();
        texts.extend(called.result.as_ref().err().into_iter().chain(&called.errors).map(ToString::to_string));
        for report in &called.reports {
            match report {
                Report::Log { message, .. } | Report::Progress { message } => texts.push(message.clone()),
                _ => {}
            }
        }
        if let Some(text) = texts.into_iter().find(|text| text.contains(SECRET)) {
            self.leaks.borrow_mut().push(format!("{}: {text}", called.export));
        }
    }

    /// Returns the first error or log line of an interface's calls that contains a planted secret.
    pub(crate) fn find_leak(&self, interface: &str) -> Option<String> {
        let prefix = format!("{interface}.");
        self.leaks.borrow().iter().find(|leak| leak.starts_with(&prefix)).cloned()
    }

    /// Registers a call that stops or removes something at the end of the check.
    pub(crate) fn on_cleanup(&self, export: &'static str, arguments: Json) {
        self.cleanups.borrow_mut().push((export, arguments));
    }

    /// Makes the calls that rules have registered with [`Self::on_cleanup`].
    pub(crate) fn clean_up(&self) {
        self.is_cleaning.set(true);
        self.set_network(NetworkCondition::Normal);
        for (export, arguments) in self.cleanups.take() {
            let _ = self.call(export, &arguments);
        }
    }
}
