//! The test areas: the stages that `cargo xtask test AREA` runs.

use crate::debian::{CHROMIUM, POSTGRESQL, Package};
use crate::registry;

/// Arguments of pytest-xdist for tests that mostly wait. Each worker process with a test that needs Ray has a head
/// of its own.
pub(crate) const SIDE_BY_SIDE: [&str; 4] = ["--numprocesses", "2", "--dist", "loadfile"];

/// The prefix of the test files that need PostgreSQL.
const POSTGRES: &str = "postgres";
/// The prefix of the test files that need a browser.
const BROWSER: &str = "browser";

/// A part of the tests that can be run by itself.
pub(crate) struct Area {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) stages: &'static [Kind],
}

/// A stage, or a part of a stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Formatting of all code, the frozen contract, and its Python module.
    Format,
    /// Clippy.
    Clippy,
    /// Licenses and sources of the crates.
    Deny,
    /// Ruff and Pyright.
    PythonLint,
    /// All Rust tests.
    Cargo,
    /// The integration test crate with that name: all test files of one package.
    CargoTest(&'static str),
    /// The files `test_<prefix>*.py` of `tests/dagster`, without tests that need a control plane.
    Pytest(&'static [&'static str]),
    /// The files `test_<prefix>*.py` of `tests/dagster`, only tests that need a control plane.
    PytestKubernetes(&'static [&'static str]),
    /// Tests of the control plane itself.
    ControlPlane,
    /// The quick cells of the fault matrix, and a short soak.
    Faults,
    /// The audit of the wheel.
    Audit,
    /// Installation of the wheel in empty environments, as a user does it.
    InstalledWheel,
    /// The demo.
    Demo,
    /// The documentation site.
    Docs,
}

/// All areas, in the order of `--list`.
pub(crate) const AREAS: &[Area] = &[
    Area {
        name: "rust",
        about: "formatting, clippy, licenses, the tests of all crates",
        stages: &[Kind::Format, Kind::Clippy, Kind::Deny, Kind::Cargo],
    },
    Area {
        name: "python",
        about: "ruff, pyright, the tests of the Python package without Kubernetes",
        stages: &[Kind::PythonLint, Kind::Pytest(&[""])],
    },
    Area {
        name: "launcher",
        about: "RayRunLauncher on real Ray",
        stages: &[Kind::Pytest(&[
            "launcher",
            "config",
            "local_backend",
            "unreachable",
            "reconcile",
            "tls",
            POSTGRES,
        ])],
    },
    Area {
        name: "executor",
        about: "ray_executor on real Ray",
        stages: &[Kind::Pytest(&["executor", "local_steps", "shell", "runtime_environments"])],
    },
    Area {
        name: "io",
        about: "RayIOManager and the value stores",
        stages: &[Kind::Pytest(&["io_manager", "values", "datasets"])],
    },
    Area {
        name: "pipes",
        about: "Dagster Pipes on real Ray and on KubeRay",
        stages: &[Kind::Pytest(&["pipes"]), Kind::PytestKubernetes(&["kuberay_pipes"])],
    },
    Area {
        name: "dg",
        about: "the components for projects of dg, and the example, on Ray and on KubeRay",
        stages: &[Kind::Pytest(&["dg"]), Kind::PytestKubernetes(&["kuberay_dg"])],
    },
    Area {
        name: "resources",
        about: "RayResource, LocalRay and Lifecycle",
        stages: &[Kind::Pytest(&["resources"])],
    },
    Area {
        name: "kuberay",
        about: "all tests that need the Kubernetes control plane, and its own tests",
        stages: &[Kind::ControlPlane, Kind::PytestKubernetes(&[""])],
    },
    Area {
        name: "faults",
        about: "the quick cells of the fault matrix, and a short soak",
        stages: &[Kind::Faults],
    },
    Area {
        name: "sandbox",
        about: "the host with misbehaving components, from Rust and from Python",
        stages: &[Kind::CargoTest("sandbox"), Kind::Pytest(&["sandbox", "policy", "signatures"])],
    },
    Area {
        name: "conformance",
        about: "the conformance tests of the built-in backends, recording and replay",
        stages: &[
            Kind::CargoTest("conformance"),
            Kind::CargoTest("recording"),
            Kind::Pytest(&["conformance"]),
        ],
    },
    Area {
        name: "backends",
        about: "third-party backends, replaced component files, the simulated backend",
        stages: &[Kind::Pytest(&["third_party", "component_", "simulated", "stray_variables"])],
    },
    Area {
        name: "cli",
        about: "the command dagster-ray",
        stages: &[Kind::CargoTest("cli"), Kind::Pytest(&["cli", "logging", "installation"])],
    },
    Area {
        name: "tools",
        about: "the doctor, the reference of the configuration, the manifests of deploy/",
        stages: &[
            Kind::Pytest(&["doctor", "reference", "deploy"]),
            Kind::PytestKubernetes(&["kuberay_doctor", "kuberay_role"]),
        ],
    },
    Area {
        name: "docs",
        about: "the documentation site, the code blocks of the README and of the pages",
        stages: &[
            Kind::Docs,
            Kind::Pytest(&["pages", "seed_readme"]),
            Kind::PytestKubernetes(&["kuberay_readme"]),
        ],
    },
    Area {
        name: "wheel",
        about: "the audit of the wheel, its installation in empty environments",
        stages: &[Kind::Audit, Kind::InstalledWheel, Kind::Pytest(&["import", "package"])],
    },
    Area { name: "demo", about: "the demo", stages: &[Kind::Demo] },
    Area { name: "ui", about: "the demo in Dagster's UI, in a browser", stages: &[Kind::Pytest(&[BROWSER])] },
    Area {
        name: "telemetry",
        about: "spans and metrics of OpenTelemetry",
        stages: &[Kind::Pytest(&["telemetry"])],
    },
];

/// The tests of one file that need a service and are therefore marked `#[ignore]`.
pub(crate) struct ServiceTests {
    /// The name of the stage.
    pub(crate) stage: &'static str,
    /// The integration test crate.
    pub(crate) crate_name: &'static str,
    /// The file in the crate, without `.rs`.
    pub(crate) module: &'static str,
    /// The environment variable that names the service.
    pub(crate) variable: &'static str,
}

/// Tests of the host against a real Kubernetes cluster.
pub(crate) const ON_KUBERNETES: ServiceTests = ServiceTests {
    stage: "cargo test on Kubernetes",
    crate_name: "sandbox",
    module: "cluster",
    variable: "KUBECONFIG",
};
/// Tests of `pull` and `push` against a real registry.
pub(crate) const WITH_REGISTRY: ServiceTests = ServiceTests {
    stage: "cargo test of the registry",
    crate_name: "cli",
    module: "registry",
    variable: registry::VARIABLE,
};

/// Returns the Debian packages that the test files with these prefixes need.
pub(crate) fn debian_packages(prefixes: &[&str]) -> Vec<Package> {
    let has = |file: &str| prefixes.iter().any(|prefix| file.starts_with(prefix));
    [(POSTGRES, POSTGRESQL), (BROWSER, CHROMIUM)]
        .into_iter()
        .filter_map(|(file, package)| has(file).then_some(package))
        .collect()
}

/// Returns the area with that name.
pub(crate) fn find(name: &str) -> Option<&'static Area> {
    AREAS.iter().find(|area| area.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::{Path, PathBuf};

    use super::*;

    /// Returns the names of the test files in a folder, without `test_` and the extension.
    fn files(folder: &str, ending: &str) -> BTreeSet<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
        std::fs::read_dir(root)
            .unwrap()
            .filter_map(|entry| {
                let name = entry.unwrap().file_name().into_string().unwrap();
                name.strip_suffix(ending).map(|name| name.trim_start_matches("test_").to_owned())
            })
            .collect()
    }

    #[test]
    fn every_pytest_prefix_matches_a_test_file() {
        let all = files("tests/dagster", ".py");
        for area in AREAS {
            for stage in area.stages {
                if let Kind::Pytest(prefixes) | Kind::PytestKubernetes(prefixes) = stage {
                    for prefix in *prefixes {
                        assert!(
                            all.iter().any(|file| file.starts_with(prefix)),
                            "{}: no file test_{prefix}*.py",
                            area.name
                        );
                    }
                }
            }
        }
    }

    /// Returns the integration test crates of all packages, by name: the folders `tests/<name>`.
    fn test_crates() -> BTreeMap<String, PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut crates = BTreeMap::new();
        for group in ["components", "host", "tests"] {
            for package in std::fs::read_dir(root.join(group)).unwrap() {
                let package = package.unwrap().path();
                if !package.join("Cargo.toml").is_file() {
                    continue;
                }
                for test in std::fs::read_dir(package.join("tests")).into_iter().flatten() {
                    let path = test.unwrap().path();
                    let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
                    assert!(
                        path.join("main.rs").is_file(),
                        "{}: make it a module of the package's test crate, because each crate links the host",
                        path.display()
                    );
                    crates.insert(name, path);
                }
            }
        }
        crates
    }

    #[test]
    fn every_test_crate_belongs_to_an_area() {
        let mut named = BTreeSet::new();
        for stage in AREAS.iter().flat_map(|area| area.stages) {
            if let Kind::CargoTest(name) = stage {
                named.insert((*name).to_owned());
            }
        }
        assert_eq!(named, test_crates().into_keys().collect::<BTreeSet<_>>());
    }

    #[test]
    fn every_file_of_a_test_crate_is_one_of_its_modules() {
        for path in test_crates().into_values() {
            let main = std::fs::read_to_string(path.join("main.rs")).unwrap();
            for entry in std::fs::read_dir(&path).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_stem().unwrap().to_str().unwrap();
                if !["main", "snapshots"].contains(&name) {
                    let line = format!("mod {name};");
                    assert!(main.lines().any(|found| found == line), "add `{line}` for {}", path.display());
                }
            }
        }
    }

    #[test]
    fn tests_that_need_a_service_belong_to_a_stage() {
        let mut found = BTreeSet::new();
        for (crate_name, path) in test_crates() {
            for entry in std::fs::read_dir(&path).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() && std::fs::read_to_string(&path).unwrap().contains("#[ignore = \"needs ") {
                    found
                        .insert((crate_name.clone(), path.file_stem().unwrap().to_str().unwrap().to_owned()));
                }
            }
        }
        let stages = [ON_KUBERNETES, WITH_REGISTRY];
        let named = stages.map(|tests| (tests.crate_name.to_owned(), tests.module.to_owned()));
        assert_eq!(found, BTreeSet::from(named));
    }
}
