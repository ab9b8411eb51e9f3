//! Recording and replaying as an environment variable selects.

use std::sync::{Arc, Once};

use dagster_ray_runtime::Interceptor;

use crate::cassette::{self, CassetteError, CassetteMode};

/// The environment variable that enables recording or replaying. [`CassetteMode`] parses its value.
pub const VARIABLE: &str = "DAGSTER_RAY_CASSETTE";

/// Returns the interceptor that the environment variable [`VARIABLE`] selects, or none without it.
///
/// # Errors
/// If the variable is neither `record:<directory>` nor `replay:<file>`, or the cassette cannot be used.
pub fn from_environment() -> Result<Option<Arc<dyn Interceptor>>, CassetteError> {
    match std::env::var(VARIABLE) {
        Ok(text) if !text.is_empty() => {
            let mode = text.parse::<CassetteMode>()?;
            warn_about(&mode);
            cassette::open(&mode).map(Some)
        }
        _ => Ok(None),
    }
}

/// Warns once per process that the environment enables recording or replaying, because a stray variable
/// is otherwise hard to notice.
fn warn_about(mode: &CassetteMode) {
    static WARNED: Once = Once::new();
    let unset = "If this is not intended, unset it";
    WARNED.call_once(|| match mode {
        CassetteMode::Record(path) => tracing::warn!(
            "{VARIABLE} is set: every HTTP request of a component and its response are recorded in {}. {unset}",
            path.display()
        ),
        CassetteMode::Replay(path) => tracing::warn!(
            "{VARIABLE} is set: HTTP requests of components are replayed from {} and never reach Ray or Kubernetes. {unset}",
            path.display()
        ),
    });
}
