//! `cargo xtask test`: runs all checks and tests, or those of some areas.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::ScopedJoinHandle;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::areas::{self, AREAS, Kind, SIDE_BY_SIDE, ServiceTests};
use crate::background::in_background;
use crate::build;
use crate::cluster;
use crate::debian;
use crate::docs;
use crate::environment::Environment;
use crate::faults;
use crate::installed;
use crate::project::Project;
use crate::registry;
use crate::side_by_side;
use crate::stages::Stages;
use crate::test_cluster::{self, TestCluster};

mod checks;

pub(crate) use checks::check_contract;

/// Marks of pytest, see `tests/dagster/pytest.ini`.
const WITHOUT_SERVICES: &str = "not slow";
const ON_RAY: &str = "slow and not kubernetes and not nightly";
const ON_KUBERNETES: &str = "kubernetes and not nightly";
const NIGHTLY_ON_RAY: &str = "slow and not kubernetes and nightly";
const NIGHTLY_ON_KUBERNETES: &str = "kubernetes and nightly";

/// The arguments of `cargo xtask test`.
#[derive(Args)]
pub(crate) struct Test {
    /// The areas to test; default: everything (`--list` prints the areas)
    #[arg(value_name = "AREA", value_parser = PossibleValuesParser::new(AREAS.iter().map(|area| area.name)))]
    areas: Vec<String>,
    /// Print the areas with a description of each
    #[arg(long)]
    pub(crate) list: bool,
    /// Leave out tests that need Ray or Kubernetes, and the demo
    #[arg(long)]
    fast: bool,
    /// Run the long tests that a run of everything leaves out, on Ray and on Kubernetes (an hour)
    #[arg(long, conflicts_with_all = ["areas", "fast"])]
    nightly: bool,
    /// Test the lowest and the highest supported Dagster, Ray and Python (an hour or more)
    #[arg(long, conflicts_with_all = ["areas", "fast", "nightly"])]
    matrix: bool,
    /// Run the suites of two deployments at the same time, on one Ray and in one namespace (an hour)
    #[arg(long, conflicts_with_all = ["areas", "fast", "matrix", "nightly"])]
    two_deployments: bool,
    /// Arguments for pytest, such as `-k resume`
    #[arg(last = true)]
    pytest: Vec<String>,
}

impl Test {
    /// Prints the areas.
    pub(crate) fn print_areas(&self) {
        let width = AREAS.iter().map(|area| area.name.len()).max().unwrap_or(0);
        for area in AREAS {
            eprintln!("  {:<width$}  {}", area.name, area.about);
        }
    }

    /// Builds, then runs the stages. Only stages that depend on a failed stage are skipped.
    pub(crate) fn run(&self, project: &Project, stages: &Stages) {
        std::thread::scope(|scope| {
            let needs_kubernetes =
                self.areas.is_empty() && !self.fast && !self.matrix && !self.two_deployments;
            // The slowest stage if it is not in the cache. It does not depend on the build.
            let control_plane =
                needs_kubernetes.then(|| scope.spawn(|| cluster::build(project, stages, cluster::KUBERAY)));
            let Some(wheel) = build::run(project, stages, Environment::Test) else {
                stages.skip("checks and tests", "the build failed");
                return;
            };
            if self.matrix {
                installed::matrix(project, stages, &wheel);
                return;
            }
            if self.two_deployments {
                side_by_side::run(project, stages, &self.pytest);
                return;
            }
            let tests = Tests { project, stages, wheel: &wheel, fast: self.fast, pytest: &self.pytest };
            match control_plane {
                Some(control_plane) if self.nightly => tests.nightly(control_plane),
                Some(control_plane) => tests.everything(control_plane),
                None if self.areas.is_empty() => tests.fast(),
                None => tests.some(&self.areas),
            }
        });
    }
}

/// The context of all stages of a test run.
struct Tests<'a> {
    project: &'a Project,
    stages: &'a Stages,
    wheel: &'a Path,
    fast: bool,
    pytest: &'a [String],
}

impl Tests<'_> {
    /// Runs the stages of some areas in sequence.
    fn some(&self, names: &[String]) {
        let mut kinds: Vec<Kind> = Vec::new();
        for area in names.iter().filter_map(|name| areas::find(name)) {
            kinds.extend(area.stages);
        }
        let mut seen = Vec::new();
        kinds.retain(|kind| {
            let first = !seen.contains(kind);
            seen.push(*kind);
            first
        });
        let mut files = Vec::new();
        let mut kubernetes_files = Vec::new();
        let mut cargo_tests = Vec::new();
        for kind in &kinds {
            match kind {
                Kind::Pytest(prefixes) => files.extend(*prefixes),
                Kind::PytestKubernetes(prefixes) => kubernetes_files.extend(*prefixes),
                Kind::CargoTest(name) => cargo_tests.push(*name),
                _ => {}
            }
        }
        let has = |kind: Kind| kinds.contains(&kind);
        if has(Kind::Format) {
            self.format();
        }
        if has(Kind::Clippy) {
            self.clippy();
        }
        if has(Kind::Deny) {
            self.licenses();
        }
        if has(Kind::PythonLint) {
            self.python_lint();
        }
        if has(Kind::Docs) {
            docs::run(self.project, self.stages);
        }
        if has(Kind::Cargo) {
            self.cargo_test(&[]);
        } else if !cargo_tests.is_empty() {
            self.cargo_test(&cargo_tests);
        }
        let packages = areas::debian_packages(&files);
        debian::install(self.project, self.stages, &packages);
        if !files.is_empty() {
            self.pytest("pytest", self.marks(), &files, None, None);
        }
        if has(Kind::ControlPlane) || !kubernetes_files.is_empty() {
            let built = cluster::build(self.project, self.stages, cluster::KUBERAY);
            if let Some(cluster) = self.cluster(built) {
                if has(Kind::ControlPlane) {
                    self.control_plane(&cluster);
                }
                if !kubernetes_files.is_empty() {
                    let name = "pytest on Kubernetes";
                    self.pytest(name, "kubernetes", &kubernetes_files, Some(&cluster), None);
                }
                if has(Kind::ControlPlane) {
                    self.cargo_test_with(&areas::ON_KUBERNETES, &cluster.kubeconfig);
                }
            }
        }
        if has(Kind::Faults) {
            faults::quick(self.project, self.stages, self.pytest);
        }
        if has(Kind::Audit) {
            self.audit();
        }
        if has(Kind::InstalledWheel) {
            installed::run(self.project, self.stages, self.wheel);
        }
        if has(Kind::Demo) {
            self.demo();
        }
    }

    /// Runs the stages that need neither Ray nor Kubernetes.
    fn fast(&self) {
        self.compiled();
        self.python_lint();
        self.audit();
        docs::run(self.project, self.stages);
        self.pytest("pytest", self.marks(), &[""], None, None);
        for name in ["kubernetes", "faults", "installed wheel", "demo"] {
            self.stages.skip(name, "--fast");
        }
    }

    /// Runs all stages. Compilations and tests without services run beside the Kubernetes tests, which mostly
    /// wait, and beside the tests of the installed wheel.
    ///
    /// The tests on Ray run after them, two files at a time. Beside the Kubernetes tests, which start a Python
    /// process for every step as well, they would reach their timeouts on two cores.
    fn everything(&self, control_plane: ScopedJoinHandle<'_, bool>) {
        let registry = std::thread::scope(|scope| {
            scope.spawn(|| {
                if let Some(cluster) = self.cluster(control_plane.join().unwrap_or(false)) {
                    self.pytest("pytest on Kubernetes", ON_KUBERNETES, &[""], Some(&cluster), None);
                    self.cargo_test_with(&areas::ON_KUBERNETES, &cluster.kubeconfig);
                }
                installed::run(self.project, self.stages, self.wheel);
            });
            debian::install(self.project, self.stages, &areas::debian_packages(&[""]));
            self.python_lint();
            self.audit();
            docs::run(self.project, self.stages);
            self.compiled();
            let registry = registry::build(self.project, self.stages);
            self.pytest("pytest without services", WITHOUT_SERVICES, &[""], None, registry.as_deref());
            registry
        });
        self.pytest("pytest on Ray", ON_RAY, &[""], None, registry.as_deref());
        faults::quick(self.project, self.stages, &[]);
        self.demo();
        if let Some(program) = &registry {
            self.cargo_test_with(&areas::WITH_REGISTRY, program);
        }
    }

    /// Runs the long tests that `everything` leaves out.
    fn nightly(&self, control_plane: ScopedJoinHandle<'_, bool>) {
        if let Some(cluster) = self.cluster(control_plane.join().unwrap_or(false)) {
            self.control_plane(&cluster);
            self.pytest("nightly pytest on Kubernetes", NIGHTLY_ON_KUBERNETES, &[""], Some(&cluster), None);
            self.cargo_test_with(&areas::ON_KUBERNETES, &cluster.kubeconfig);
        }
        debian::install(self.project, self.stages, &areas::debian_packages(&[""]));
        self.pytest("nightly pytest on Ray", NIGHTLY_ON_RAY, &[""], None, None);
    }

    /// Runs the Rust checks and tests.
    fn compiled(&self) {
        self.format();
        self.clippy();
        self.licenses();
        self.cargo_test(&[]);
    }

    /// Runs the tests of all crates, or the integration test crates with these names.
    ///
    /// Only the compilation has a low priority: some tests measure time.
    fn cargo_test(&self, names: &[&str]) {
        let command = |more: &[&str]| {
            let mut cargo =
                self.project.cargo(&["test", "--locked", "--release", "--workspace", "--no-fail-fast"]);
            for name in names {
                cargo.args(["--test", name]);
            }
            cargo.args(more);
            cargo
        };
        let built = self
            .stages
            .run("cargo test build", |stage| stage.execute(&mut in_background(command(&["--no-run"]))));
        if built {
            self.stages.run("cargo test", |stage| stage.execute(&mut command(&[])));
        }
    }

    /// Runs the tests that need a service, which `value` names.
    fn cargo_test_with(&self, tests: &ServiceTests, value: &Path) {
        let mut cargo = self.project.cargo(&["test", "--locked", "--release", "--workspace"]);
        cargo.args(["--test", tests.crate_name, "--", "--ignored", &format!("{}::", tests.module)]);
        self.stages.run(tests.stage, |stage| stage.execute(cargo.env(tests.variable, value)));
    }

    /// Returns the marks of the tests that need no control plane.
    fn marks(&self) -> &'static str {
        if self.fast { WITHOUT_SERVICES } else { "not kubernetes" }
    }

    /// Runs the tests with these marks in the files of `tests/dagster` whose names begin with one of the
    /// prefixes.
    fn pytest(
        &self,
        name: &str,
        marks: &str,
        prefixes: &[&str],
        cluster: Option<&TestCluster>,
        registry: Option<&Path>,
    ) {
        let mut second_try = None;
        self.stages.run(name, |stage| {
            let mut pytest = self.pytest_command();
            pytest.args(self.test_files(prefixes)?);
            pytest.args(["-m", marks]).args(self.pytest);
            if [WITHOUT_SERVICES, ON_RAY, NIGHTLY_ON_RAY].contains(&marks) {
                pytest.args(SIDE_BY_SIDE);
            }
            // Stages that run side by side must not read each other's last failures.
            let cache = self.project.target().join("pytest").join(name.replace(' ', "-"));
            pytest.arg("-o").arg(format!("cache_dir={}", cache.display()));
            // The results of some tests do not replace those of all.
            let is_part = self.fast || !self.pytest.is_empty();
            let report = format!("{name} {}{}", prefixes.join(" "), if is_part { " part" } else { "" });
            let report = report.split_whitespace().collect::<Vec<_>>().join(" ");
            pytest.arg(faults::report(self.project, &report)?);
            pytest.envs(cluster.map(|cluster| (test_cluster::VARIABLE, &cluster.ready)));
            pytest.envs(registry.map(|program| (registry::VARIABLE, program)));
            let Err(error) = stage.execute(&mut pytest) else { return Ok(()) };
            // These tests observe real services within time limits. A test that fails twice is a defect. One
            // that fails once is reported in the table and in the log.
            stage.note(&format!("{error:#}; the failed tests are run a second time"))?;
            pytest.args(["--last-failed", "--last-failed-no-failures", "none"]);
            stage.execute(pytest.arg(faults::report(self.project, &format!("{report} again"))?))?;
            second_try = Some("passed at the second try only; see `FAILED` in the log");
            Ok(())
        });
        if let Some(reason) = second_try {
            self.stages.skip(&format!("{name}: unstable"), reason);
        }
    }

    fn pytest_command(&self) -> Command {
        let mut command = self.project.program(self.project.venv_program("python"));
        // A service that is broken for all tests must not take hours to report.
        command.args(["-m", "pytest", "--durations=15", "--maxfail=20"]);
        command
    }

    fn test_files(&self, prefixes: &[&str]) -> Result<Vec<PathBuf>> {
        let folder = self.project.root().join("tests/dagster");
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&folder).context("tests/dagster could not be listed")? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(rest) = name.strip_prefix("test_").filter(|name| name.ends_with(".py")) else {
                continue;
            };
            if prefixes.iter().any(|prefix| rest.starts_with(prefix)) {
                files.push(path);
            }
        }
        if files.is_empty() {
            bail!("no file tests/dagster/test_<prefix>*.py has the prefix {}", prefixes.join(" or "));
        }
        files.sort();
        Ok(files)
    }

    /// Starts the control plane for the tests that need it.
    fn cluster(&self, built: bool) -> Option<TestCluster> {
        if !built {
            self.stages.skip("tests on Kubernetes", "the control plane could not be built");
            return None;
        }
        let cluster = TestCluster::start(self.project, self.stages, cluster::KUBERAY);
        if cluster.is_none() {
            self.stages.skip("tests on Kubernetes", "the control plane did not start");
        }
        cluster
    }

    /// Runs the tests of the control plane itself.
    fn control_plane(&self, cluster: &TestCluster) {
        self.stages.run("pytest of the control plane", |stage| {
            let mut pytest = self.pytest_command();
            stage.execute(pytest.arg("tests/cluster").env(test_cluster::VARIABLE, &cluster.ready))
        });
    }

    fn demo(&self) {
        self.stages.run("demo", |stage| {
            let python = self.project.venv_program("python");
            let mut demo = self.project.program(python);
            stage.execute(demo.arg("examples/demo/run.py").args(["--isolation", "task"]))
        });
    }
}
