//! `cargo xtask fuzz`: searches for inputs that violate the properties of `tests/fuzz`, with libFuzzer.
//!
//! Each target runs for a limited time, two at a time. `cargo test` only replays the committed inputs.
//!
//! This does what cargo-fuzz does on a nightly toolchain, with the pinned one: coverage instrumentation is a
//! stable compiler option, and libFuzzer is a crate. The address sanitizer is not stable and is left out,
//! because the code under test is safe Rust.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::background::in_background;
use crate::project::Project;
use crate::stages::{Stage, Stages};

/// The compiler flags of cargo-fuzz without the sanitizer: they instrument coverage and comparisons.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0";
/// How many targets run at the same time.
const AT_ONCE: usize = 2;
/// The timeout for one input, in seconds. Inputs normally take microseconds.
const LONGEST_INPUT: u32 = 10;
/// The memory limit of a target, in MiB.
const MEMORY: u32 = 1_024;
/// How many bytes of a failing input are printed. The whole input is in its file.
const SHOWN: usize = 400;

/// The arguments of `cargo xtask fuzz`.
#[derive(Args)]
pub(crate) struct Fuzz {
    /// The name of a folder in tests/fuzz/corpus; default: all targets
    target: Option<String>,
    /// How long each target runs, in seconds
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u32,
}

/// Builds all targets and runs the selected ones.
pub(crate) fn run(project: &Project, stages: &Stages, fuzz: &Fuzz) {
    let paths = Paths::new(project);
    let mut built = None;
    let chosen = paths.chosen(fuzz.target.as_deref());
    stages.run("fuzz build", |stage| {
        chosen.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
        built = Some(paths.build(project, stage)?);
        Ok(())
    });
    if let (Some(programs), Ok(targets)) = (built, chosen) {
        stages.run("fuzz", |stage| paths.run(project, stage, &programs, targets, fuzz.seconds));
    }
}

/// The folders of the fuzzing crate and of its output.
struct Paths {
    /// The folder `tests/fuzz` with the inputs and dictionaries.
    source: PathBuf,
    /// The crate with a program for each target, a workspace of its own.
    programs: PathBuf,
    /// The build output, found inputs and crashes.
    target: PathBuf,
}

impl Paths {
    fn new(project: &Project) -> Self {
        let source = project.root().join("tests/fuzz");
        let programs = source.join("libfuzzer");
        Self { source, programs, target: project.target().join("fuzz") }
    }

    /// Returns the selected targets.
    fn chosen(&self, target: Option<&str>) -> Result<VecDeque<String>> {
        let folder = self.programs.join("fuzz_targets");
        let mut all = Vec::new();
        for entry in
            fs::read_dir(&folder).with_context(|| format!("{} could not be listed", folder.display()))?
        {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "rs")
                && let Some(name) = path.file_stem()
            {
                all.push(name.to_string_lossy().into_owned());
            }
        }
        all.sort_unstable();
        match target {
            None => Ok(all.into()),
            Some(target) if all.iter().any(|name| name == target) => Ok([target.to_owned()].into()),
            Some(target) => bail!("there is no target {target}. The targets are: {}", all.join(", ")),
        }
    }

    /// Builds the targets. Returns the folder of their programs.
    fn build(&self, project: &Project, stage: &mut Stage) -> Result<PathBuf> {
        let host = host(project)?;
        let mut cargo = project.cargo(&["build", "--locked", "--release", "--bins", "--target", &host]);
        // With --target, cargo does not apply RUSTFLAGS to build scripts and procedural macros.
        cargo.arg("--manifest-path").arg(self.programs.join("Cargo.toml"));
        cargo.arg("--target-dir").arg(&self.target).env("RUSTFLAGS", FLAGS);
        stage.execute(&mut in_background(cargo))?;
        Ok(self.target.join(host).join("release"))
    }

    fn run(
        &self,
        project: &Project,
        stage: &mut Stage,
        programs: &Path,
        mut waiting: VecDeque<String>,
        seconds: u32,
    ) -> Result<()> {
        let mut active: Vec<Running> = Vec::new();
        let mut failed = Vec::new();
        while !(waiting.is_empty() && active.is_empty()) {
            while active.len() < AT_ONCE
                && let Some(target) = waiting.pop_front()
            {
                stage.note(&format!("{target}: {seconds} s"))?;
                active.push(self.start(project, programs, target, seconds)?);
            }
            std::thread::sleep(Duration::from_millis(100));
            for mut running in std::mem::take(&mut active) {
                match running.child.try_wait().context("the state of a target's process is unknown")? {
                    None => active.push(running),
                    Some(status) => {
                        let log = fs::read_to_string(&running.log).unwrap_or_default();
                        stage.note(&summary(&running.target, &log))?;
                        if !status.success() {
                            stage.note(&failure(project, programs, &running, status, &log))?;
                            failed.push(running.target.clone());
                        }
                    }
                }
            }
        }
        match failed.as_slice() {
            [] => Ok(()),
            failed => bail!("found an input that makes these targets fail: {}", failed.join(", ")),
        }
    }

    fn start(&self, project: &Project, programs: &Path, target: String, seconds: u32) -> Result<Running> {
        let own = |kind: &str| -> Result<PathBuf> {
            let folder = self.target.join(kind).join(&target);
            fs::create_dir_all(&folder)
                .with_context(|| format!("{} could not be created", folder.display()))?;
            Ok(folder)
        };
        let (found, crashes) = (own("corpus")?, own("crashes")?);
        let log = self.target.join(format!("{target}.log"));
        let output = File::create(&log).with_context(|| format!("{} could not be written", log.display()))?;
        let mut command = project.program(programs.join(&target));
        command.args([
            format!("-max_total_time={seconds}"),
            format!("-timeout={LONGEST_INPUT}"),
            format!("-rss_limit_mb={MEMORY}"),
            format!("-artifact_prefix={}/", crashes.display()),
            "-print_final_stats=1".to_owned(),
        ]);
        let dictionary = self.source.join("dictionaries").join(format!("{target}.dict"));
        if dictionary.is_file() {
            command.arg(format!("-dict={}", dictionary.display()));
        }
        // libFuzzer writes new inputs to the first folder and only reads the others.
        command.arg(&found);
        let committed = self.source.join("corpus").join(&target);
        if committed.is_dir() {
            command.arg(committed);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("the log could not be shared")?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("{target} could not be started"))?;
        Ok(Running { target, child, log })
    }
}

/// A running target. Dropping it kills the process.
struct Running {
    target: String,
    child: Child,
    log: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Killing a process that has ended is an error, which is ignored.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the compiler's default target.
fn host(project: &Project) -> Result<String> {
    let mut rustc: Command = project.program("rustc");
    let output = rustc.arg("-vV").output().context("rustc could not be run")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` printed no host")?.to_owned())
}

/// Summarizes libFuzzer's output: executions and coverage.
fn summary(target: &str, log: &str) -> String {
    let executions = log.lines().rev().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let covered = log.lines().rev().find_map(|line| line.split_once("cov: ")?.1.split(' ').next());
    format!(
        "{target}: {} executions, {} edges covered",
        executions.map_or("?", str::trim),
        covered.unwrap_or("?")
    )
}

/// Describes a failure: the target, the input, and the command that reproduces it.
fn failure(project: &Project, programs: &Path, running: &Running, status: ExitStatus, log: &str) -> String {
    let Running { target, log: log_file, .. } = running;
    let shown = |path: &Path| path.strip_prefix(project.root()).unwrap_or(path).display().to_string();
    let message: Vec<_> = log
        .lines()
        .skip_while(|line| !(line.contains("panicked at") || line.contains("ERROR: libFuzzer")))
        .take(8)
        .collect();
    let Some(input) =
        log.lines().rev().find_map(|line| Some(PathBuf::from(line.split_once("Test unit written to ")?.1)))
    else {
        return format!("{target} failed: {status}; its output is in {}", shown(log_file));
    };
    let bytes = fs::read(&input).unwrap_or_default();
    format!(
        "{target} fails on an input of {} bytes: {}\n  input:      {}\n  reproduce:  {} {}\n{}",
        bytes.len(),
        shown(&input),
        bytes[..bytes.len().min(SHOWN)].escape_ascii(),
        shown(&programs.join(target)),
        shown(&input),
        message.join("\n"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_reads_executions_and_coverage_from_libfuzzers_output() {
        let log = "#2\tINITED cov: 12 ft: 13 corp: 1/1b\n#9\tDONE   cov: 99 ft: 1 corp: 2/2b lim: 4\nstat::number_of_executed_units: 9\n";
        assert_eq!(summary("x", log), "x: 9 executions, 99 edges covered");
        assert_eq!(summary("x", ""), "x: ? executions, ? edges covered");
    }
}
