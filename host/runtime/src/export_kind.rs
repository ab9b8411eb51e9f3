//! What the exports of the contract have in common, by their names.

/// Returns whether an export has a listener, through which it can notice a cancellation.
pub(crate) fn has_listener(export: &str) -> bool {
    matches!(
        export.split_once('.'),
        Some(
            ("launcher" | "executor", "terminate")
                | ("cluster", "wait")
                | ("reconciler", "reconcile")
                | ("pipes", "launch" | "follow" | "wait" | "terminate")
        )
    )
}

/// Returns whether an export runs as long as a user's script.
pub(crate) fn is_long_running(export: &str) -> bool {
    matches!(export, "pipes.follow" | "pipes.wait")
}
