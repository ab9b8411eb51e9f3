//! The supported versions in `tests/matrix.toml`, and the test results in `docs/supported.md`.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::files;
use crate::project::Project;

/// Versions that are tested together.
#[derive(Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) python: String,
    pub(crate) dagster: String,
    pub(crate) ray: String,
}

impl Row {
    /// Returns the versions of this row as uv overrides, one requirement per line.
    pub(crate) fn overrides(&self) -> String {
        let Self { dagster, ray, .. } = self;
        format!(
            "dagster=={dagster}\ndagster-graphql=={dagster}\ndagster-webserver=={dagster}\n\
             ray[default]=={ray}\n"
        )
    }
}

/// The file `tests/matrix.toml`.
#[derive(Deserialize)]
pub(crate) struct Matrix {
    /// The versions of Python, Dagster and Ray that are tested together.
    #[serde(rename = "row")]
    pub(crate) rows: Vec<Row>,
    /// The folders of `tests/cluster/programs` that require the tested versions of the KubeRay operator.
    pub(crate) operators: Vec<String>,
}

/// Reads `tests/matrix.toml`.
pub(crate) fn read(project: &Project) -> Result<Matrix> {
    let file = project.root().join("tests/matrix.toml");
    let text = fs::read_to_string(&file).with_context(|| format!("{} could not be read", file.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not a matrix of versions", file.display()))
}

/// Writes the results of the rows, and of the versions of KubeRay, to `docs/supported.md`.
pub(crate) fn write(
    project: &Project,
    results: &[(Row, String)],
    operators: &[(String, String)],
) -> Result<()> {
    let date = Command::new("date").arg("+%Y-%m-%d").output().context("date could not be run")?;
    let date = String::from_utf8_lossy(&date.stdout).trim().to_owned();
    let mut text = format!(
        "# Supported versions\n\nThe lowest and the highest versions that are tested, from \
         `tests/matrix.toml`. Written by `cargo xtask test --matrix`, last on {date} on Linux {}.\n\n\
         | | Python | Dagster | Ray | tests |\n|---|---|---|---|---|\n",
        std::env::consts::ARCH
    );
    for (row, result) in results {
        let Row { name, python, dagster, ray } = row;
        text.push_str(&format!("| {name} | {python} | {dagster} | {ray} | {result} |\n"));
    }
    text.push_str("\n| KubeRay | tests |\n|---|---|\n");
    for (version, result) in operators {
        text.push_str(&format!("| {version} | {result} |\n"));
    }
    files::write_if_changed(&project.root().join("docs/supported.md"), text.as_bytes())
}
