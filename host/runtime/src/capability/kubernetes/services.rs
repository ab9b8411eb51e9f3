//! Requests to services of the cluster by their names, `http://<service>.<namespace>.svc:<port>`.
//!
//! Inside the cluster the name leads there. Outside, a connection is a port-forward through the API
//! server to a pod behind the service. hyper keeps connections of both kinds alike; one that breaks
//! is replaced by a new one, to a pod that is looked up anew.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::Scheme;
use http::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use wasmtime_wasi_http::{Error, WasiBody};

use super::cluster::Cluster;
use super::failure::Failure;
use super::stream::{self, Stream};
use crate::capability::http::{Room, Waits, explain, limited};

/// How long an unused stream is kept: less than what Ray's dashboard (75 s) and common load
/// balancers (60 s) keep theirs, because the end of a forwarded connection is seen late.
const IDLE: Duration = Duration::from_secs(30);

/// A service of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceName {
    pub(super) name: String,
    pub(super) namespace: String,
}

impl ServiceName {
    /// A service by its name, checked as a label of DNS (RFC 1123).
    pub(crate) fn new(name: &str, namespace: &str) -> Option<Self> {
        let is_label = |text: &str| {
            (1..=63).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !text.starts_with('-')
                && !text.ends_with('-')
        };
        (is_label(name) && is_label(namespace))
            .then(|| Self { name: name.to_owned(), namespace: namespace.to_owned() })
    }

    /// The service that a request is for: `http://<service>.<namespace>.svc`, and the same with
    /// `.cluster.local` behind it.
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        if uri.scheme() != Some(&Scheme::HTTP) {
            return None;
        }
        let host = uri.host()?.to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let host = host.strip_suffix(".cluster.local").unwrap_or(host);
        let (name, namespace) = host.strip_suffix(".svc")?.split_once('.')?;
        Self::new(name, namespace)
    }

    pub(super) fn host(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host())
    }
}

/// The connections to the services of one cluster.
#[derive(Clone)]
pub(crate) struct Services(Client<Connector, WasiBody>);

impl Services {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        Self(
            Client::builder(TokioExecutor::new())
                .pool_idle_timeout(IDLE)
                .pool_timer(TokioTimer::new())
                .build(Connector(cluster)),
        )
    }

    /// Sends a request to a service.
    pub(crate) async fn send(
        &self,
        request: Request<WasiBody>,
        waits: Waits,
        response_bytes: u64,
    ) -> Result<Response<WasiBody>, Error> {
        let sent = tokio::time::timeout(waits.head(), self.0.request(request));
        let error = match sent.await.map_err(|_| Error::HttpResponseTimeout)? {
            Ok(response) => {
                return Ok(
                    response.map(|body| limited(body, Room::Body(response_bytes), waits.between_bytes))
                );
            }
            Err(error) => error,
        };
        match failure(&error) {
            // As the cluster's own DNS and network would put it.
            Some(absent @ (Failure::NoService { .. } | Failure::NoPort { .. } | Failure::NoPod { .. })) => {
                Err(Error::DnsError { rcode: Some(absent.to_string()), info_code: None })
            }
            Some(Failure::NotListening { .. }) => Err(Error::ConnectionRefused),
            Some(failure) => Ok(failure.answer()),
            None => Err(explain(error)),
        }
    }
}

fn failure(error: &hyper_util::client::legacy::Error) -> Option<&Failure> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return Some(failure);
        }
        source = cause.source();
    }
    None
}

/// Opens a stream for each connection that hyper wants.
#[derive(Clone)]
struct Connector(Arc<Cluster>);

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let cluster = self.0.clone();
        Box::pin(async move {
            let service = ServiceName::of(&uri)
                .ok_or_else(|| Failure::Host(format!("{uri} is no service of the cluster")))?;
            let port = uri.port_u16().unwrap_or(80);
            Ok(TokioIo::new(stream::open(&cluster, &service, port).await?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_services_are_told_from_others() {
        let name = |uri: &str| ServiceName::of(&uri.parse().unwrap()).map(|name| name.to_string());
        let head = Some("head.ray.svc".to_owned());
        assert_eq!(name("http://head.ray.svc:8265/api"), head);
        assert_eq!(name("http://HEAD.ray.svc.cluster.local/"), head);
        assert_eq!(name("http://head.ray.svc.:8265"), head);
        for other in [
            "https://head.ray.svc/",
            "http://ray.svc/",
            "http://a.head.ray.svc/",
            "http://head.ray.svc.evil.example/",
            "http://head.ray.svc@evil.example/",
            "http://head.ray/",
            "http://-head.ray.svc/",
            "http://10.0.0.1:8265/",
        ] {
            assert_eq!(name(other), None, "{other}");
        }
    }
}
