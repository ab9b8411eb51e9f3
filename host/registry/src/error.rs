//! Why what a user wrote leads to no component.

/// What was written names no component.
#[derive(Debug, thiserror::Error)]
#[error("there is no backend {name:?}: {hint}")]
pub struct NameError {
    /// What was written.
    pub name: String,
    /// What to write instead.
    pub hint: String,
}
