//! Requests to the virtual authority `kubernetes.internal`.

use std::time::Instant;

use dagster_ray_policy::capability::kubernetes as grant;
use dagster_ray_policy::kubernetes::{Rule, Verb, request_info};
use http::header::{ACCEPT, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH, USER_AGENT};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use wasmtime_wasi_http::{Error, WasiBody};

use super::cluster::{Access, Cluster};
use super::failure::{self, Failure};
use crate::capability::http::body::{BodyLimit, incomplete, limited};
use crate::capability::http::timeouts::Timeouts;
use crate::capability::{denial, user_agent};
use crate::model::Denial;

const AUTHORITY: &str = "kubernetes.internal";
/// Maximum size of a request body, in bytes: the API server's `MaxRequestBodyBytes`,
/// <https://github.com/kubernetes/kubernetes/blob/v1.36.0/staging/src/k8s.io/apiserver/pkg/server/config.go>.
const MAX_REQUEST_BYTES: usize = 3 << 20;
/// The component's headers that are forwarded. Credentials, impersonation and connection headers are not.
const FORWARDED_HEADERS: [HeaderName; 5] = [ACCEPT, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH, USER_AGENT];

/// Returns whether a request addresses the Kubernetes API.
pub fn is_kubernetes_api(uri: &Uri) -> bool {
    uri.scheme() == Some(&Scheme::HTTP)
        && uri.port_u16().unwrap_or(80) == 80
        && uri.host().is_some_and(|host| host.eq_ignore_ascii_case(AUTHORITY))
}

/// A request that passed the policy check.
pub(crate) struct Admitted {
    target: PathAndQuery,
    is_watch: bool,
}

impl Admitted {
    /// Returns whether the request is a watch, whose response has no end.
    pub(crate) fn is_watch(&self) -> bool {
        self.is_watch
    }
}

/// Why a request is not sent.
pub(crate) enum Rejection {
    /// No grant allows it.
    Denied(Denial),
    /// The request is invalid, so no grant can allow it.
    Malformed(Response<WasiBody>),
}

/// Checks a request against the rules.
pub(crate) fn admit(rules: &[Rule], request: &Request<WasiBody>) -> Result<Admitted, Box<Rejection>> {
    let parsed = match request_info::parse(request.method(), request.uri()) {
        Ok(parsed) => parsed,
        Err(malformed) => {
            let text = format!("{AUTHORITY}: {malformed}");
            let response = failure::status_response(StatusCode::BAD_REQUEST, "BadRequest", &text);
            return Err(Box::new(Rejection::Malformed(response)));
        }
    };
    let denied = |missing: String| {
        let target = format!("{} {}", request.method(), parsed.target);
        Box::new(Rejection::Denied(denial(&grant::CAPABILITY, target, missing)))
    };
    match &parsed.info {
        Some(info) if rules.iter().any(|rule| rule.allows(info)) => {
            Ok(Admitted { is_watch: info.verb == Verb::Watch, target: parsed.target })
        }
        Some(info) => Err(denied(grant::missing_grant(info))),
        None if rules.is_empty() => Err(denied(grant::CAPABILITY.example.to_owned())),
        None => Ok(Admitted { is_watch: false, target: parsed.target }),
    }
}

/// Sends a request that was admitted.
pub(crate) async fn send(
    cluster: &Cluster,
    admitted: Admitted,
    request: Request<WasiBody>,
    timeouts: Timeouts,
    response_bytes: u64,
) -> Result<Response<WasiBody>, Error> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, MAX_REQUEST_BYTES)
        .collect()
        .await
        .map_err(|error| match error.downcast::<Error>() {
            Ok(error) => *error,
            Err(_) => Error::HttpRequestBodySize(Some(MAX_REQUEST_BYTES as u64)),
        })?
        .to_bytes();
    let build = || {
        let mut request = Request::new(kube::client::Body::from(body.clone()));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = Uri::from(admitted.target.clone());
        *request.headers_mut() = headers(&parts.headers);
        request
    };
    let exchange = async {
        let begun = Instant::now();
        match exchange(cluster, build()).await {
            // The token may have expired since the kubeconfig was read. A request with status 401 was
            // not applied, so it can be repeated.
            Err((failure @ Failure::Credentials { .. }, Some(access))) if access.made < begun => {
                tracing::debug!("reading the kubeconfig again: {failure}");
                exchange(cluster, build()).await
            }
            other => other,
        }
    };
    let response = match tokio::time::timeout(timeouts.head(), exchange).await {
        Err(_) => return Err(Error::HttpResponseTimeout),
        Ok(Ok(response)) => response,
        Ok(Err((failure @ Failure::Lost { .. }, _))) => {
            return Err(Error::InternalError(Some(failure.to_string())));
        }
        Ok(Err((failure, _))) => return Ok(failure.to_response()),
    };
    // A watch lasts as long as its call, and each event is one line.
    let body_limit =
        if admitted.is_watch { BodyLimit::PerLine(response_bytes) } else { BodyLimit::Total(response_bytes) };
    Ok(response.map(|body| limited(body.map_err(incomplete), body_limit, timeouts.between_bytes)))
}

/// Sends a request. A failure is returned with the client that was used, if there was one.
async fn exchange(
    cluster: &Cluster,
    request: Request<kube::client::Body>,
) -> Result<Response<kube::client::Body>, (Failure, Option<Access>)> {
    let access = cluster.access().await.map_err(|failure| (failure, None))?;
    access.audit();
    let failure = match access.client.send(request).await {
        Ok(response) if response.status() == StatusCode::UNAUTHORIZED => Failure::Credentials {
            location: access.location.clone(),
            problem: failure::rejected_credentials(&message(response).await),
        },
        Ok(response) => return Ok(response),
        Err(error) => access.failure(&error),
    };
    cluster.forget_if_stale(&access, &failure).await;
    Err((failure, Some(access)))
}

/// Returns the message of a `Status` document.
async fn message(response: Response<kube::client::Body>) -> String {
    let body = Limited::new(response.into_body(), 64 << 10).collect().await;
    let document: serde_json::Value =
        body.ok().and_then(|body| serde_json::from_slice(&body.to_bytes()).ok()).unwrap_or_default();
    document["message"].as_str().unwrap_or_default().to_owned()
}

fn headers(given: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in &FORWARDED_HEADERS {
        for value in given.get_all(name) {
            kept.append(name, value.clone());
        }
    }
    user_agent::add(&mut kept);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_document_headers_are_forwarded() {
        let mut given = HeaderMap::new();
        for (name, value) in [
            ("accept", "application/json"),
            ("content-type", "application/merge-patch+json"),
            ("authorization", "Bearer stolen"),
            ("impersonate-user", "system:admin"),
            ("impersonate-extra-a", "b"),
            ("x-remote-user", "system:admin"),
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("cookie", "a=b"),
            ("content-length", "7"),
            ("accept-encoding", "gzip"),
        ] {
            given.insert(name, value.parse().unwrap());
        }
        let kept = headers(&given);
        let mut names: Vec<_> = kept.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "content-type", "user-agent"]);
    }

    #[test]
    fn the_virtual_authority_requires_http_and_port_80() {
        let meant = |uri: &str| is_kubernetes_api(&uri.parse().unwrap());
        assert!(meant("http://kubernetes.internal/api"));
        assert!(meant("http://Kubernetes.Internal:80/api"));
        assert!(!meant("https://kubernetes.internal/api"));
        assert!(!meant("http://kubernetes.internal:8080/api"));
        assert!(!meant("http://kubernetes.internal.evil/api"));
        assert!(!meant("http://kubernetes.internal@evil/api"));
    }
}
