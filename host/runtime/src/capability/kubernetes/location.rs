//! A cluster's name in messages.

use std::fmt;

/// A cluster's name in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterLocation {
    pub(super) server: String,
    /// The kubeconfig and its context; none for a pod's service account.
    pub(super) from: Option<(String, String)>,
}

impl fmt::Display for ClusterLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            Some((file, context)) => write!(f, "{} (context {context} of {file})", self.server),
            None => write!(f, "{} (the service account of this pod)", self.server),
        }
    }
}
