//! Questions about the surroundings of a component, which no component asks.

use serde::Serialize;

use crate::audit::AuditedCall;
use crate::backend::{Backend, ForwardError};
use crate::capability::http::certificate;
use crate::capability::kubernetes::{Failure, Review, review};

/// The certificate of one authority.
#[derive(Debug, Clone, Serialize)]
pub struct Certificate {
    /// The authority, as `https://host:port`.
    pub authority: String,
    /// The end of its validity, as `2030-01-31T23:59:59Z`; none if it cannot be read.
    pub valid_until: Option<String>,
    /// Why there is no connection, or why the certificate is not trusted.
    pub problem: Option<String>,
}

impl Backend {
    /// Compares what the account of the configuration may do in a namespace with the component's grants and the
    /// host's own requests. Returns none for a component without the grant `kubernetes`. Blocks.
    ///
    /// With `tokens`, the clusters have tokens. `outside` is for an account that is used outside the cluster; by
    /// default, the location of this process decides.
    ///
    /// # Errors
    /// The component cannot be loaded, or the API server cannot be asked.
    pub fn review(
        &self,
        namespace: &str,
        tokens: bool,
        outside: Option<bool>,
    ) -> Result<Option<Review>, ForwardError> {
        let (cluster, _) = self.host().shared().clusters.get(&self.options().kubernetes);
        self.host().runtime().block_on(async {
            let load = self.load().await;
            let (loaded, policy) =
                load.map_err(|error| Failure::Host(format!("the component was not loaded: {error}")))??;
            if policy.kubernetes.is_empty() {
                return Ok(None);
            }
            let audited = AuditedCall::operation(&loaded.manifest.id, &loaded.digest, "review");
            let reviewed = review(&cluster, &policy.kubernetes, namespace, tokens, outside);
            Ok(Some(audited.scope(reviewed).await?))
        })
    }

    /// Connects to each authority of the configuration that uses TLS, and returns its certificate. No request is
    /// sent. Blocks.
    pub fn certificates(&self) -> Vec<Certificate> {
        let authorities = self.options().authorities.iter();
        let encrypted = authorities.filter(|authority| authority.origin.is_https());
        self.host().runtime().block_on(async {
            let mut all = Vec::new();
            for authority in encrypted {
                let (valid_until, problem) = match certificate::valid_until(authority).await {
                    Ok(end) => (end, None),
                    Err(problem) => (None, Some(problem)),
                };
                all.push(Certificate { authority: authority.origin.to_string(), valid_until, problem });
            }
            all
        })
    }
}
