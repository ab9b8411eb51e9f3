//! The areas of the tests: what `cargo xtask test AREA` runs.

/// A part of the tests that can be run alone.
pub(crate) struct Area {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) stages: &'static [Kind],
}

/// A stage, or the tests of a stage that belong to one area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The formatting of all code, and the frozen contract.
    Format,
    /// Lints of Rust.
    Clippy,
    /// The licenses and sources of the crates.
    Deny,
    /// Ruff and Pyright.
    PythonLint,
    /// All tests of Rust.
    Cargo,
    /// The integration tests of that name, of all crates.
    CargoTest(&'static str),
    /// Tests of `tests/dagster` by the beginnings of their files' names, without those that need a
    /// control plane.
    Pytest(&'static [&'static str]),
    /// The same, with those that need a control plane.
    PytestKubernetes(&'static [&'static str]),
    /// The tests of the control plane itself.
    ControlPlane,
    /// The audit of the wheel.
    Audit,
    /// The wheel in empty environments, as a user installs it.
    InstalledWheel,
    /// Fuzzing, a while for each target.
    Fuzz,
    /// The demo.
    Demo,
}

/// All there are, in the order of `--list`.
pub(crate) const AREAS: &[Area] = &[
    Area {
        name: "rust",
        about: "formatting, clippy, licenses, and the tests of all crates",
        stages: &[Kind::Format, Kind::Clippy, Kind::Deny, Kind::Cargo],
    },
    Area {
        name: "python",
        about: "ruff, pyright, and the tests of the package without Kubernetes",
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
        stages: &[Kind::Pytest(&["executor", "off_ray", "shell", "runtime_environments"])],
    },
    Area {
        name: "io",
        about: "RayIOManager and the stores of values",
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
        about: "all that needs the Kubernetes control plane, and that control plane",
        stages: &[Kind::ControlPlane, Kind::PytestKubernetes(&[""])],
    },
    Area {
        name: "sandbox",
        about: "what the host does with components that misbehave, from Rust and from Python",
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
        about: "what every backend must satisfy, on the built-in ones",
        stages: &[Kind::CargoTest("built_ins"), Kind::CargoTest("cassettes"), Kind::Pytest(&["conformance"])],
    },
    Area {
        name: "backends",
        about: "third-party backends, swapped files and the simulated backend",
        stages: &[Kind::Pytest(&["foreign", "component_files", "swap", "simulated", "stray_variables"])],
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
        about: "the examples of the README",
        stages: &[Kind::Pytest(&["readme", "seed_readme"]), Kind::PytestKubernetes(&["kuberay_readme"])],
    },
    Area {
        name: "wheel",
        about: "the audit of the wheel, and the wheel in empty environments",
        stages: &[Kind::Audit, Kind::InstalledWheel, Kind::Pytest(&["import", "package"])],
    },
    Area { name: "fuzz", about: "every fuzz target for a while", stages: &[Kind::Fuzz] },
    Area { name: "demo", about: "the demo", stages: &[Kind::Demo] },
];

/// The area of that name.
pub(crate) fn find(name: &str) -> Option<&'static Area> {
    AREAS.iter().find(|area| area.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// The names of the test files that some area runs, and those that exist.
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
    fn every_beginning_of_a_file_name_fits_a_file() {
        let all = files("tests/dagster", ".py");
        for area in AREAS {
            for stage in area.stages {
                if let Kind::Pytest(beginnings) | Kind::PytestKubernetes(beginnings) = stage {
                    for beginning in *beginnings {
                        assert!(
                            all.iter().any(|file| file.starts_with(beginning)),
                            "{}: no file test_{beginning}*.py",
                            area.name
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_area_sandbox_names_every_test_of_the_sandbox() {
        let area = find("sandbox").unwrap();
        for file in files("tests/sandbox/tests", ".rs") {
            // Those of the cluster need a control plane.
            let named =
                area.stages.iter().any(|stage| matches!(stage, Kind::CargoTest(name) if *name == file));
            assert!(named || file == "cluster", "add Kind::CargoTest({file:?})");
        }
    }
}
