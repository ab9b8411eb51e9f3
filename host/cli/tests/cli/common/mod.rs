//! Runs the command in an isolated environment.

pub(crate) mod server;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The arguments of `launcher.plan`.
pub(crate) const PLAN: &str = r#"{"run": {"deployment": "d", "run_id": "r", "attempt": 0, "job_name": "n", "command": {"argv": ["true"], "env": []}, "tags": [], "options": "{}"}}"#;

/// A temporary folder with components, an empty cache and no credentials.
pub(crate) struct TestEnvironment {
    folder: tempfile::TempDir,
}

impl TestEnvironment {
    /// Creates the folder with the component `echo` and its manifest.
    pub(crate) fn new() -> Self {
        let environment = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir_all(environment.components()).unwrap();
        environment.install("echo", "id = \"echo\"\n");
        environment
    }

    /// Adds a fixture with a manifest to the components.
    pub(crate) fn install(&self, name: &str, manifest: &str) {
        std::fs::copy(fixture(name), self.components().join(format!("{name}.wasm"))).unwrap();
        std::fs::write(self.components().join(format!("{name}.toml")), manifest).unwrap();
    }

    /// Adds a fixture as it is shipped, with its function names in their own file, and a manifest.
    pub(crate) fn install_shipped(&self, name: &str, manifest: &str) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        for extension in ["wasm", "names"] {
            let file = root.join("target/fixtures").join(name).with_extension(extension);
            std::fs::copy(&file, self.components().join(name).with_extension(extension))
                .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask build` first", file.display()));
        }
        std::fs::write(self.components().join(name).with_extension("toml"), manifest).unwrap();
    }

    pub(crate) fn components(&self) -> PathBuf {
        self.path("components")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the command with arguments.
    pub(crate) fn command<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dagster-ray"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("DAGSTER_RAY_COMPONENTS", self.components())
            .env("DAGSTER_RAY_CACHE_DIR", self.path("cache"))
            .env("DOCKER_CONFIG", self.path("docker"))
            .env("NO_COLOR", "1")
            .env("COLUMNS", "100")
            .env_remove("DAGSTER_RAY_LOG")
            .env_remove("DAGSTER_HOME")
            .env_remove("DAGSTER_RAY_POLICY")
            .env_remove("KUBECONFIG");
        for proxy in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(proxy);
        }
        command
    }

    /// Runs the command until it ends.
    pub(crate) fn run<const N: usize>(&self, arguments: [&str; N]) -> CommandOutput {
        CommandOutput(self.command(arguments).output().unwrap())
    }
}

/// The exit code and output of a command.
pub(crate) struct CommandOutput(pub(crate) Output);

impl CommandOutput {
    pub(crate) fn code(&self) -> i32 {
        self.0.status.code().unwrap_or(-1)
    }

    pub(crate) fn stdout(&self) -> &str {
        std::str::from_utf8(&self.0.stdout).unwrap()
    }

    pub(crate) fn stderr(&self) -> &str {
        std::str::from_utf8(&self.0.stderr).unwrap()
    }

    /// Returns standard output, which must be one JSON document.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code(), 0, "{}", self.stderr());
        serde_json::from_str(self.stdout()).unwrap_or_else(|error| panic!("{error}: {}", self.stdout()))
    }

    /// Returns standard error. The command must end with `code` and leave standard output empty.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32) -> &str {
        assert_eq!((self.code(), self.stdout()), (code, ""), "{}", self.stderr());
        self.stderr()
    }
}

/// Returns the folder to which `cargo xtask build` writes the components of the package.
pub(crate) fn built_in() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("python/dagster_ray/components");
    let exists = folder.join("kuberay.wasm").exists();
    assert!(exists, "{} has no components: run `cargo xtask build` first", folder.display());
    folder
}

/// Returns the test component that `cargo xtask build` has built.
pub(crate) fn fixture(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let wasm = root.join("target/wasm32-wasip2/component").join(format!("fixture_{name}.wasm"));
    assert!(wasm.exists(), "{} does not exist: run `cargo xtask build` first", wasm.display());
    wasm
}
