//! The test areas: the stages that `cargo xtask test AREA` runs.

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
    /// The Rust integration test with that name.
    CargoTest(&'static str),
    /// The files `test_<prefix>*.py` of `tests/dagster`, without tests that need a control plane.
    Pytest(&'static [&'static str]),
    /// The files `test_<prefix>*.py` of `tests/dagster`, only tests that need a control plane.
    PytestKubernetes(&'static [&'static str]),
    /// Tests of the control plane itself.
    ControlPlane,
    /// The audit of the wheel.
    Audit,
    /// Installation of the wheel in empty environments, as a user does it.
    InstalledWheel,
    /// All fuzz targets, each for a limited time.
    Fuzz,
    /// The demo.
    Demo,
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
        stages: &[Kind::Pytest(&["launcher", "config", "local_backend", "unreachable", "tls"])],
    },
    Area {
        name: "executor",
        about: "ray_executor on real Ray",
        stages: &[Kind::Pytest(&["executor", "local_steps", "shell", "runtime_environments"])],
    },
    Area {
        name: "io",
        about: "RayIOManager and the value stores",
        stages: &[Kind::Pytest(&["io_manager", "values"])],
    },
    Area {
        name: "pipes",
        about: "Dagster Pipes on real Ray and on KubeRay",
        stages: &[Kind::Pytest(&["pipes"]), Kind::PytestKubernetes(&["kuberay_pipes"])],
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
        name: "sandbox",
        about: "the host with misbehaving components, from Rust and from Python",
        stages: &[
            Kind::CargoTest("answers"),
            Kind::CargoTest("attacks"),
            Kind::CargoTest("cache"),
            Kind::CargoTest("egress"),
            Kind::CargoTest("files"),
            Kind::CargoTest("floods"),
            Kind::CargoTest("grants"),
            Kind::CargoTest("keyvalue"),
            Kind::CargoTest("kubernetes"),
            Kind::CargoTest("loading"),
            Kind::CargoTest("names"),
            Kind::CargoTest("secrets"),
            Kind::CargoTest("start"),
            Kind::CargoTest("suite"),
            Kind::Pytest(&["sandbox"]),
        ],
    },
    Area {
        name: "conformance",
        about: "the conformance tests of the built-in backends",
        stages: &[Kind::CargoTest("built_ins"), Kind::CargoTest("cassettes"), Kind::Pytest(&["conformance"])],
    },
    Area {
        name: "backends",
        about: "third-party backends, replaced component files, the simulated backend",
        stages: &[Kind::Pytest(&["third_party", "component_", "simulated", "stray_variables"])],
    },
    Area {
        name: "cli",
        about: "the command dagster-ray",
        stages: &[
            Kind::CargoTest("commands"),
            Kind::CargoTest("help"),
            Kind::CargoTest("watch"),
            Kind::Pytest(&["cli", "logging", "installation"]),
        ],
    },
    Area {
        name: "docs",
        about: "the code blocks of the README",
        stages: &[Kind::Pytest(&["readme", "seed_readme"]), Kind::PytestKubernetes(&["kuberay_readme"])],
    },
    Area {
        name: "wheel",
        about: "the audit of the wheel, its installation in empty environments",
        stages: &[Kind::Audit, Kind::InstalledWheel, Kind::Pytest(&["import", "package"])],
    },
    Area { name: "fuzz", about: "every fuzz target, each for a limited time", stages: &[Kind::Fuzz] },
    Area { name: "demo", about: "the demo", stages: &[Kind::Demo] },
];

/// Returns the area with that name.
pub(crate) fn find(name: &str) -> Option<&'static Area> {
    AREAS.iter().find(|area| area.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

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

    #[test]
    fn the_sandbox_area_lists_every_sandbox_test() {
        let area = find("sandbox").unwrap();
        for file in files("tests/sandbox/tests", ".rs") {
            // `cluster` needs a control plane, so the area `kuberay` runs it.
            let is_listed =
                area.stages.iter().any(|stage| matches!(stage, Kind::CargoTest(name) if *name == file));
            assert!(is_listed || file == "cluster", "add Kind::CargoTest({file:?})");
        }
    }
}
