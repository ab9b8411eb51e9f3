//! Authentication tokens of RayClusters with `authOptions: {mode: token}`.
//!
//! KubeRay keeps a cluster's token in a Secret (`reconcileAuthSecret` and `SetContainerTokenAuthEnvVars` of its
//! controller). The host reads it with the credentials of the configuration, and adds it to requests to the cluster's
//! head. Components can neither read Secrets nor see the token.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dagster_ray_policy::kubernetes::ServiceName;
use dagster_ray_policy::kubernetes::rbac::GET_SECRET;
use k8s_openapi::ByteString;
use serde_json::Value;
use tokio::sync::Mutex;

use super::cluster::{Access, Cluster};
use super::endpoints;
use super::failure::Failure;

/// How long a result is used. A cluster that is created again under the name of an earlier one has another token.
const LIFETIME: Duration = Duration::from_secs(300);
/// How long to wait after a failure of the API server.
const RETRY: Duration = Duration::from_secs(5);
/// The end of the name of a head's Service (`GenerateHeadServiceName` in KubeRay).
const HEAD: &str = "-head-svc";
/// The place of the token in the Secret, encoded with Base64.
const KEY: &str = "/data/auth_token";
/// The maximum length of the name of KubeRay's own Secret, which is the end of the cluster's name (`CheckName`).
const MAX_SECRET_NAME: usize = 50;

/// The token of a cluster, until when it is used.
type Known = BTreeMap<ServiceName, (Instant, Option<String>)>;

/// The tokens of the clusters behind Services.
#[derive(Clone, Default)]
pub(super) struct RayTokens(Arc<Mutex<Known>>);

impl RayTokens {
    /// Returns the token of the RayCluster whose head has this Service, or none if it needs no token.
    ///
    /// While the API server cannot be asked, the last known token is used: inside the cluster, the head can be reached
    /// without it.
    ///
    /// # Errors
    ///
    /// [`Failure::Forbidden`] if the user may not read the token's Secret.
    pub(super) async fn get(
        &self,
        cluster: &Cluster,
        service: &ServiceName,
    ) -> Result<Option<String>, Failure> {
        let mut known = self.0.lock().await;
        let last = known.get(service).cloned();
        if let Some((until, token)) = &last
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let (lifetime, token) = match look_up(cluster, service).await {
            Ok(token) => (LIFETIME, token),
            Err(failure @ Failure::Forbidden { .. }) => return Err(failure),
            Err(failure) => {
                tracing::debug!("the token for {service} cannot be read: {failure}");
                (RETRY, last.and_then(|(_, token)| token))
            }
        };
        let now = Instant::now();
        known.retain(|_, (until, _)| now < *until + LIFETIME);
        known.insert(service.clone(), (now + lifetime, token.clone()));
        Ok(token)
    }

    /// Forgets the token of a cluster that did not accept it.
    pub(super) async fn forget(&self, service: &ServiceName) {
        self.0.lock().await.remove(service);
    }
}

async fn look_up(cluster: &Cluster, service: &ServiceName) -> Result<Option<String>, Failure> {
    let access = cluster.access().await?;
    let found = read(&access, service).await;
    if let Err(failure) = &found {
        cluster.forget_if_stale(&access, failure).await;
    }
    found
}

async fn read(access: &Access, service: &ServiceName) -> Result<Option<String>, Failure> {
    let Some(name) = service.name.strip_suffix(HEAD) else { return Ok(None) };
    let namespace = &service.namespace;
    let found = match get(access, format!("/apis/ray.io/v1/namespaces/{namespace}/rayclusters/{name}")).await
    {
        Ok(found) => found,
        // Another kind of Service, or a user who may not look: the head says whether it wants a token.
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => return Ok(None),
        Err(error) => return Err(access.failure(&error)),
    };
    let Some(secret) = secret_name(&found, name) else { return Ok(None) };
    access.audit();
    let mut found = get(access, format!("/api/v1/namespaces/{namespace}/secrets/{secret}"))
        .await
        .map_err(|error| endpoints::refused(access, &error, namespace, &[GET_SECRET]))?;
    let encoded = found.pointer_mut(KEY).map(Value::take).unwrap_or_default();
    let token =
        serde_json::from_value(encoded).ok().and_then(|ByteString(token)| String::from_utf8(token).ok());
    Ok(token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()))
}

/// Returns an object. Its text is not logged, unlike that of kube's own requests for JSON.
async fn get(access: &Access, path: String) -> Result<Value, kube::Error> {
    let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
    let text = access.client.request_text(request).await?;
    serde_json::from_str(&text).map_err(kube::Error::SerdeError)
}

/// Returns the name of the Secret with a RayCluster's token, or none if the cluster needs no token.
fn secret_name(cluster: &Value, name: &str) -> Option<String> {
    let options = cluster.pointer("/spec/authOptions")?;
    if options.get("mode").and_then(Value::as_str) != Some("token")
        || options.get("enableK8sTokenAuth").and_then(Value::as_bool) == Some(true)
    {
        return None;
    }
    let named = options.get("secretName").and_then(Value::as_str).filter(|secret| !secret.is_empty());
    let secret = named.map_or_else(|| shortened(name), str::to_owned);
    // The name becomes a part of a path.
    secret
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
        .then_some(secret)
}

/// Shortens a cluster's name as KubeRay does for the names of its other objects. All characters are ASCII.
fn shortened(name: &str) -> String {
    let end = &name[name.len().saturating_sub(MAX_SECRET_NAME)..];
    if end.starts_with(|first: char| first.is_ascii_digit() || first == '-') {
        format!("r{}", &end[1..])
    } else {
        end.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_cluster_in_the_mode_token_has_a_secret() {
        let name = |options: Value| secret_name(&json!({ "spec": { "authOptions": options } }), "own");
        assert_eq!(name(json!({ "mode": "token" })).as_deref(), Some("own"));
        assert_eq!(name(json!({ "mode": "token", "secretName": "theirs" })).as_deref(), Some("theirs"));
        assert_eq!(name(json!({ "mode": "token", "secretName": "" })).as_deref(), Some("own"));
        for other in [json!({ "mode": "disabled" }), json!({ "mode": "token", "enableK8sTokenAuth": true })] {
            assert_eq!(name(other), None);
        }
        assert_eq!(name(json!({ "mode": "token", "secretName": "../pods/x" })), None);
        assert_eq!(secret_name(&json!({ "spec": {} }), "own"), None);
    }

    #[test]
    fn long_names_are_shortened_as_kuberay_does() {
        let long = format!("{}-{}", "a".repeat(10), "b".repeat(49));
        assert_eq!(shortened(&long), format!("r{}", "b".repeat(49)));
        assert_eq!(shortened("7up"), "rup");
        assert_eq!(shortened("plain"), "plain");
    }
}
