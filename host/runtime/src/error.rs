//! Errors of calling a component.

use dagster_ray_policy::LoadError;

use crate::model;
use crate::report::plain;

/// Converts a wasmtime error to a load error.
pub(crate) fn engine_error(error: wasmtime::Error) -> LoadError {
    LoadError::Engine(format!("{error:#}"))
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The component could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The component does not have the export.
    #[error("{component} does not export {export}. It exports: {offered}")]
    NotOffered {
        /// The component's name.
        component: String,
        /// The called export.
        export: String,
        /// The component's exported interfaces.
        offered: String,
    },
    /// The arguments do not match the export's parameters.
    #[error("{component}: {export}: the arguments do not fit the contract: {problem}")]
    Arguments {
        /// The component's name.
        component: String,
        /// The called export.
        export: String,
        /// What is wrong with the arguments.
        problem: String,
    },
    /// The component returned an error of the contract.
    #[error("{component}: {export}: {}", explain(.error, *.is_restricted))]
    Returned {
        /// The component's name.
        component: String,
        /// The called export.
        export: String,
        /// The returned error.
        error: Box<model::Error>,
        /// Whether the operator restricts the manifest's grants.
        is_restricted: bool,
    },
    /// The component trapped.
    #[error("{component}: {export}: the component failed: {reason}{}", tail(.stderr))]
    Trap {
        /// The component's name.
        component: String,
        /// The called export.
        export: String,
        /// The reason of the trap.
        reason: String,
        /// The component's standard error, truncated to the host's limit.
        stderr: String,
    },
    /// The call exceeded its deadline.
    #[error("{component}: {export}: not {} within {seconds} s, {}",
        if *.is_queued { "started" } else { "finished" },
        if *.is_queued { "because too many calls of this process are in progress" } else { "and stopped" })]
    Deadline {
        /// The component's name.
        component: String,
        /// The called export.
        export: String,
        /// The deadline in seconds.
        seconds: f64,
        /// Whether the call still waited for other calls.
        is_queued: bool,
    },
    /// The caller cancelled the call.
    #[error("{component}: {export}: cancelled")]
    Cancelled {
        /// The component's name.
        component: String,
        /// The called export.
        export: String,
    },
}

fn tail(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!("\nThe component wrote:\n{}", stderr.trim_end()) }
}

/// Maximum length of an error's text in bytes, because Dagster keeps it in the event log. Ray's last lines of a
/// failed job have at most 20,000 characters.
const MAX_TEXT_BYTES: usize = 64 << 10;
/// Maximum number of invalid fields that an error's text names.
const MAX_FIELDS: usize = 64;

/// Returns an error of the contract as text for the user.
pub(crate) fn explain(error: &model::Error, is_restricted: bool) -> String {
    use model::Error as E;
    let text = match error {
        E::InvalidConfig(fields) => {
            let mut text = String::from("the configuration is wrong:");
            for field in fields.iter().take(MAX_FIELDS) {
                text.push_str(&format!("\n  {}: {}", field.path, field.problem));
                if let Some(hint) = &field.hint {
                    text.push_str(&format!(" ({hint})"));
                }
            }
            if let Some(more @ 1..) = fields.len().checked_sub(MAX_FIELDS) {
                text.push_str(&format!("\n  and {more} more"));
            }
            text
        }
        E::NotFound(what) => format!("not found: {what}"),
        E::Conflict(what) => format!("conflict: {what}"),
        E::Denied(denial) => format!(
            "the host refused {} to {}. To allow it, add to [grants] in the component's manifest{}: {}",
            denial.capability,
            denial.target,
            if is_restricted { ", and to grants in backend_grants of the configuration" } else { "" },
            denial.grant
        ),
        E::Unavailable(hint) => hint.reason.clone(),
        E::Timeout(ms) => format!("not finished within {} s", *ms as f64 / 1000.0),
        E::Cancelled => "cancelled".into(),
        E::Unsupported(what) => what.clone(),
        E::Backend(api) if api.status != 0 => format!("HTTP {} {}: {}", api.status, api.reason, api.message),
        E::Backend(api) => format!("{}: {}", api.reason, api.message),
        E::Other(text) => text.clone(),
    };
    plain(limited(text))
}

/// Cuts off what is longer than an error's text may be, and says how much that is.
fn limited(mut text: String) -> String {
    let length = text.len();
    if length > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        text.push_str(&format!(" [{} more bytes]", length - text.len()));
    }
    text
}
