//! `cargo xtask release --dry-run`: checks that the tree can be released, and prints what is left to do.
//!
//! A release is a tag on a commit whose tests pass. The command changes nothing and publishes nothing.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::build;
use crate::docs;
use crate::environment::Environment;
use crate::frozen;
use crate::project::Project;
use crate::stages::Stages;
use crate::wheel;

/// The version of all crates and of the wheel.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const UNRELEASED: &str = "## [Unreleased]";

/// The arguments of `cargo xtask release`.
#[derive(Args)]
pub(crate) struct Release {
    /// Check only
    #[arg(long)]
    dry_run: bool,
}

impl Release {
    /// Runs the checklist. All checks run, even if one fails.
    pub(crate) fn run(&self, project: &Project, stages: &Stages) -> Result<()> {
        ensure!(
            self.dry_run,
            "publishing is done by hand: run `cargo xtask release --dry-run` for the checklist"
        );
        let tag = format!("v{VERSION}");
        stages.run("version", |_| wheel::equal_versions(project));
        stages.run("changelog", |_| {
            let file = project.root().join("CHANGELOG.md");
            changelog(&fs::read_to_string(file).context("CHANGELOG.md could not be read")?, VERSION)
        });
        stages.run("contract is frozen", |_| {
            frozen::check(&project.wit())?;
            frozen::are_released(&project.wit())
        });
        stages.run("tag", |_| unused_tag(project, &tag));
        stages.run("clean tree", |_| clean(project));
        if let Some(built) = build::run(project, stages, Environment::Test) {
            stages.run("audit", |stage| wheel::audit(project, stage, &built));
            stages.run("wheel name", |_| named(&built));
            docs::run(project, stages);
        }
        stages.skip(
            "publish",
            &format!(
                "if all checks and `cargo xtask test` have passed, push the tag {tag}, the wheel of \
                 `cargo xtask wheel` and target/docs/site"
            ),
        );
        Ok(())
    }
}

/// Checks that the changelog has a section for the version, with text, and that nothing is unreleased.
fn changelog(text: &str, version: &str) -> Result<()> {
    let heading = format!("## [{version}] - ");
    let section = text.split("\n## ").skip(1).map(|part| format!("## {part}"));
    let Some(section) = section.into_iter().find(|part| part.starts_with(&heading)) else {
        bail!("CHANGELOG.md has no section `{heading}<date>`: rename the section {UNRELEASED:?}");
    };
    let (first, rest) = section.split_once('\n').unwrap_or((&section, ""));
    let date = first.trim_start_matches(&heading);
    let is_date = date.len() == 10 && date.split('-').map(str::len).eq([4, 2, 2]);
    ensure!(is_date, "CHANGELOG.md: `{first}` has no date such as 2026-11-30");
    ensure!(rest.contains("\n- "), "CHANGELOG.md: the section of {version} has no entries");
    if let Some((_, unreleased)) = text.split_once(UNRELEASED) {
        let entries = unreleased.split("\n## ").next().unwrap_or_default();
        ensure!(!entries.contains("\n- "), "CHANGELOG.md: move the entries of {UNRELEASED:?} to {version}");
    }
    Ok(())
}

fn unused_tag(project: &Project, tag: &str) -> Result<()> {
    let found = git(project, &["tag", "--list", tag])?;
    ensure!(found.is_empty(), "the tag {tag} exists: raise the version in Cargo.toml and _version.py");
    Ok(())
}

fn clean(project: &Project) -> Result<()> {
    let changed = git(project, &["status", "--porcelain"])?;
    ensure!(changed.is_empty(), "there are changes without a commit:\n{changed}");
    Ok(())
}

fn git(project: &Project, arguments: &[&str]) -> Result<String> {
    let output = project.program("git").args(arguments).output().context("git could not be run")?;
    ensure!(output.status.success(), "git failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn named(wheel: &Path) -> Result<()> {
    let name = wheel.file_name().unwrap_or_default().to_string_lossy();
    ensure!(
        name.starts_with(&format!("dagster_ray_wasm-{VERSION}-")),
        "the wheel {name} has another version than {VERSION}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changelog_needs_a_dated_section_with_entries_and_nothing_unreleased() {
        let good = "# Changelog\n\n## [Unreleased]\n\n## [0.1.0] - 2026-12-01\n\n### Added\n\n- All.\n";
        changelog(good, "0.1.0").unwrap();
        let wrong = [
            ("# Changelog\n\n## [Unreleased]\n\n- All.\n".to_owned(), "has no section"),
            (good.replace("2026-12-01", "soon"), "has no date"),
            (good.replace("- All.", ""), "has no entries"),
            (good.replace("[Unreleased]\n", "[Unreleased]\n\n- More.\n"), "move the entries"),
        ];
        for (text, problem) in wrong {
            let error = changelog(&text, "0.1.0").unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
