//! How calling a component fails.

use dagster_ray_policy::LoadError;

use crate::bindings::dagster_ray::host::model;
use crate::notice::plain;

/// wasmtime's refusal, as an error of loading.
pub(crate) fn refused(error: wasmtime::Error) -> LoadError {
    LoadError::Engine(format!("{error:#}"))
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The component could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The component does not export what was called.
    #[error("{component} does not offer {export}. It offers: {offered}")]
    NotOffered {
        /// The component.
        component: String,
        /// What was called.
        export: String,
        /// Its exports.
        offered: String,
    },
    /// The arguments do not fit the export.
    #[error("{component}: {export}: the arguments do not fit the contract: {problem}")]
    Arguments {
        /// The component.
        component: String,
        /// What was called.
        export: String,
        /// What is wrong with them.
        problem: String,
    },
    /// The component answered with an error of the contract.
    #[error("{component}: {export}: {}", explain(.error, *.is_narrowed))]
    Answered {
        /// The component.
        component: String,
        /// What was called.
        export: String,
        /// Its answer.
        error: Box<model::Error>,
        /// Whether the operator takes some of the manifest's grants away.
        is_narrowed: bool,
    },
    /// The component has a defect.
    #[error("{component}: {export}: the component failed: {reason}{}", tail(.stderr))]
    Trap {
        /// The component.
        component: String,
        /// What was called.
        export: String,
        /// Why it stopped.
        reason: String,
        /// What it wrote on its standard error, cut to the host's limit.
        stderr: String,
    },
    /// The call took longer than it may.
    #[error("{component}: {export}: not finished within {seconds} s, and stopped")]
    Deadline {
        /// The component.
        component: String,
        /// What was called.
        export: String,
        /// The limit.
        seconds: f64,
    },
    /// The caller gave up.
    #[error("{component}: {export}: cancelled")]
    Cancelled {
        /// The component.
        component: String,
        /// What was called.
        export: String,
    },
}

fn tail(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!("\nThe component wrote:\n{}", stderr.trim_end()) }
}

fn explain(error: &model::Error, is_narrowed: bool) -> String {
    use model::Error as E;
    plain(match error {
        E::InvalidConfig(fields) => {
            let mut text = String::from("the configuration is wrong:");
            for field in fields {
                text.push_str(&format!("\n  {}: {}", field.path, field.problem));
                if let Some(hint) = &field.hint {
                    text.push_str(&format!(" ({hint})"));
                }
            }
            text
        }
        E::NotFound(what) => format!("not found: {what}"),
        E::Conflict(what) => format!("conflict: {what}"),
        E::Denied(denial) => format!(
            "the host refused {} to {}. To allow it, add to [grants] in the component's manifest{}: {}",
            denial.capability,
            denial.target,
            if is_narrowed { ", and to grants in backend_grants of the configuration" } else { "" },
            denial.grant
        ),
        E::Unavailable(hint) => hint.reason.clone(),
        E::Timeout(ms) => format!("not finished within {} s", *ms as f64 / 1000.0),
        E::Cancelled => "cancelled".into(),
        E::Unsupported(what) => what.clone(),
        E::Backend(api) if api.status != 0 => format!("HTTP {} {}: {}", api.status, api.reason, api.message),
        E::Backend(api) => format!("{}: {}", api.reason, api.message),
        E::Other(text) => text.clone(),
    })
}
