//! Helpers for tests that call a test component through the host.

#![allow(clippy::expect_used, clippy::panic, reason = "this crate is nothing but tests")]

pub mod server;
pub mod suite;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use dagster_ray_runtime::capability::kubernetes::KubernetesOptions;
use dagster_ray_runtime::manifest::Restriction;
use dagster_ray_runtime::{
    Authority, AuthorityOptions, Backend, BackendOptions, Call, CallError, CallOptions, Host, Progress,
    Report,
};
use serde_json::{Value, json};

/// Returns the host of the test process.
pub fn host() -> Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| Host::start().expect("the engine starts")).clone()
}

/// Returns the path of a test component that `cargo xtask build` has built.
pub fn fixture(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("two folders below the root");
    let wasm = root.join("target/wasm32-wasip2/component").join(format!("fixture_{name}.wasm"));
    assert!(wasm.exists(), "{} is not there: run `cargo xtask build` first", wasm.display());
    wasm
}

/// A component under test, in a folder of its own.
pub struct Subject {
    folder: tempfile::TempDir,
    settings: BTreeMap<String, String>,
    authorities: Vec<Authority>,
    kubernetes: KubernetesOptions,
    programs: BTreeMap<String, Vec<String>>,
    directories: Vec<PathBuf>,
    restriction: Restriction,
    sha256: Option<String>,
}

impl Subject {
    /// Creates a subject from a fixture and a manifest.
    pub fn new(name: &str, manifest: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::copy(fixture(name), folder.path().join("subject.wasm")).expect("a copy");
        std::fs::write(folder.path().join("subject.toml"), manifest).expect("a manifest");
        Self {
            folder,
            settings: BTreeMap::new(),
            authorities: Vec::new(),
            kubernetes: KubernetesOptions::default(),
            programs: BTreeMap::new(),
            directories: Vec::new(),
            restriction: Restriction::default(),
            sha256: None,
        }
    }

    /// Adds a setting.
    pub fn setting(mut self, key: &str, value: &str) -> Self {
        self.settings.insert(key.into(), value.into());
        self
    }

    /// Adds an authority of the configuration, with a header.
    pub fn authority(self, url: &str, header: (&str, &str)) -> Self {
        self.with_authority(url, BTreeMap::from([(header.0.into(), header.1.into())]), BTreeMap::new())
    }

    /// Adds an authority of the configuration, with a cookie.
    pub fn cookie(self, url: &str, cookie: (&str, &str)) -> Self {
        self.with_authority(url, BTreeMap::new(), BTreeMap::from([(cookie.0.into(), cookie.1.into())]))
    }

    fn with_authority(
        mut self,
        url: &str,
        headers: BTreeMap<String, String>,
        cookies: BTreeMap<String, String>,
    ) -> Self {
        let options = AuthorityOptions {
            url: url.into(),
            headers,
            cookies,
            ray_token: false,
            verify: Default::default(),
        };
        self.authorities.push(Authority::new(options).expect("a good authority"));
        self
    }

    /// Sets the kubeconfig.
    pub fn kubeconfig(mut self, path: &Path) -> Self {
        self.kubernetes.kubeconfig = Some(path.to_owned());
        self
    }

    /// Adds a program under a name.
    pub fn program(mut self, name: &str, command: &[&str]) -> Self {
        self.programs.insert(name.into(), command.iter().map(|word| (*word).to_owned()).collect());
        self
    }

    /// Adds a directory of the configuration.
    pub fn directory(mut self, path: &Path) -> Self {
        self.directories.push(path.to_owned());
        self
    }

    /// Sets the operator's restrictions (`backend_grants`), as JSON.
    pub fn restricted(mut self, restriction: &Value) -> Self {
        self.restriction = Restriction::from_json(&restriction.to_string()).expect("a valid restriction");
        self
    }

    /// Sets the digest that the operator pins.
    pub fn pinned(mut self, sha256: &str) -> Self {
        self.sha256 = Some(sha256.to_owned());
        self
    }

    /// Returns the path of the component file.
    pub fn wasm(&self) -> PathBuf {
        self.folder.path().join("subject.wasm")
    }

    /// Creates the backend in the host of the test process.
    pub fn backend(&self) -> Backend {
        self.backend_in(host())
    }

    /// Creates the backend in a host.
    pub fn backend_in(&self, host: Host) -> Backend {
        Backend::new(
            host,
            BackendOptions {
                path: self.wasm(),
                settings: self.settings.clone(),
                authorities: self.authorities.clone(),
                kubernetes: self.kubernetes.clone(),
                programs: self.programs.clone(),
                stores: Default::default(),
                tasks: None,
                buckets: Default::default(),
                directories: self.directories.clone(),
                restriction: self.restriction.clone(),
                sha256: self.sha256.clone(),
                trusted_keys: None,
            },
        )
    }
}

/// Calls an export to its end.
pub fn call(backend: &Backend, export: &str, arguments: &Value) -> Result<Value, CallError> {
    Call::begin(backend, export, &arguments.to_string(), CallOptions::default()).finish(backend)
}

/// Calls an export to its end and returns the log lines.
pub fn lines(backend: &Backend, export: &str, arguments: &Value) -> Vec<String> {
    let mut call = Call::begin(backend, export, &arguments.to_string(), CallOptions::default());
    let mut lines = Vec::new();
    loop {
        match call.wait(backend, Duration::from_secs(60)) {
            Progress::Report(Report::Log { message, .. }) => lines.push(message),
            Progress::Report(_) => {}
            Progress::Ended(_) => return lines,
            Progress::Pending => panic!("{export} does not end"),
        }
    }
}

/// Returns the arguments of `launcher.plan` for a run.
pub fn plan_arguments(run_id: &str) -> Value {
    let command = json!({"argv": ["dagster"], "payload": null, "env": []});
    json!({"run": {
        "deployment": "d", "run_id": run_id, "attempt": 0, "job_name": "n", "code_location": null,
        "command": command, "tags": [], "options": "{}",
    }})
}

/// Calls the export that makes the attack, checks that the host serves the next call, and returns the
/// outcome of the attack.
pub fn attack(subject: &Subject) -> String {
    let backend = subject.backend();
    let outcome = call(&backend, "launcher.plan", &plan_arguments("r"));
    let next = call(&backend, "launcher.check", &json!({"runs": []}));
    assert_eq!(next.expect("the next call is served"), json!([]));
    match outcome {
        Ok(value) => format!("answered {value}"),
        Err(error) => error.to_string(),
    }
}
