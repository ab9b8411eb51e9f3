//! Go, which builds the programs of the control plane and of the registry.

use std::path::Path;
use std::process::Command;

use crate::project::Project;

/// The version that is installed from PyPI if no recent Go is on the PATH.
pub(crate) const FROM_PYPI: &str = "1.26.3";

/// Returns a command of Go, without cgo, without toolchain downloads and with a low priority.
pub(crate) fn command(project: &Project, go: &Path, directory: &Path) -> Command {
    let mut command = project.program("nice");
    command
        .args(["-n", "10"])
        .arg(go)
        .current_dir(directory)
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env("GOFLAGS", "-buildvcs=false")
        .env_remove("GOROOT");
    command
}

/// Returns the Go version that a go.mod requires.
pub(crate) fn required(go_mod: &str) -> Option<Vec<u32>> {
    go_mod.lines().find_map(|line| line.strip_prefix("go ")).and_then(numbers)
}

/// Returns the version of a module that a go.mod requires, without its `v`.
pub(crate) fn required_version(go_mod: &str, module: &str) -> Option<String> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        if words.next()? != module {
            return None;
        }
        words.next()?.strip_prefix('v').map(str::to_owned)
    })
}

/// Returns the version of a Go program, if it runs.
pub(crate) fn version(go: &Path) -> Option<Vec<u32>> {
    let output = Command::new(go).args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local").output().ok()?;
    numbers(String::from_utf8(output.stdout).ok()?.trim().strip_prefix("go")?)
}

/// Parses a version such as `1.26.3` into numbers, which compare like versions.
fn numbers(text: &str) -> Option<Vec<u32>> {
    text.trim().split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_version_finds_the_exact_module() {
        let text = "tool k8s.io/kubernetes/cmd/x\nrequire (\n\tk8s.io/kubernetes-x v9.0.0\n\t\
                    k8s.io/kubernetes v1.36.3 // indirect\n)\n";
        assert_eq!(required_version(text, "k8s.io/kubernetes").as_deref(), Some("1.36.3"));
        assert_eq!(required_version(text, "k8s.io/api"), None);
        assert_eq!(
            required_version("require go.etcd.io/etcd v3.6.7\n", "go.etcd.io/etcd").as_deref(),
            Some("3.6.7")
        );
    }

    #[test]
    fn versions_compare_numerically() {
        assert!(numbers("1.26.10") > numbers("1.26.9"));
        assert!(numbers("1.26") < numbers("1.26.0"));
        assert_eq!(numbers("1.27rc1"), None);
    }
}
