//! `wasi:http`: requests to the authorities that are granted, and to no other.
//!
//! The decision is made on the request that is really sent. Credentials are added here, after the
//! component has let go of the request, so that it never sees one.

mod body;
mod client;
mod credentials;

use std::future::Future;
use std::time::Duration;

use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks,
};

pub(crate) use self::client::Clients;
use crate::bindings::dagster_ray::host::model::Denial;
use crate::policy::Policy;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(30);
/// Longest wait for an answer to begin, and between its parts. A component can ask for less; one
/// that follows a quiet stream is cut by the call's own deadline before.
const QUIET: Duration = Duration::from_secs(600);

type Answer = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

/// The door through which every request of one call goes.
pub(crate) struct Egress {
    pub(crate) policy: std::sync::Arc<Policy>,
    pub(crate) clients: Clients,
    pub(crate) response_bytes: u64,
    /// Refusals of this call, so that its error can name the missing grant.
    pub(crate) denials: Vec<Denial>,
}

impl Egress {
    fn refuse(&mut self, request: &http::Request<WasiBody>) {
        let uri = request.uri();
        let target = uri.to_string();
        let grant = match (uri.scheme_str(), uri.authority()) {
            (Some(scheme), Some(authority)) => format!("http = [\"{scheme}://{authority}\"]"),
            _ => "http = [\"address\"]".to_owned(),
        };
        self.denials.push(Denial { capability: "http".into(), target, grant });
    }
}

impl WasiHttpHooks for Egress {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        (self.forbidden_header_filter())(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        std::sync::Arc::new(|name| {
            DEFAULT_FORBIDDEN_HEADERS.contains(name)
                || [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION].contains(name)
                || name.as_str() == "x-ray-authorization"
        })
    }

    fn send_request(
        &mut self,
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _written: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Answer, Error>> + Send> {
        let Some(authority) = self.policy.authority(request.uri()).cloned() else {
            self.refuse(&request);
            return Box::new(async { Err(Error::HttpRequestDenied) });
        };
        credentials::add(&authority, request.headers_mut());
        let clients = self.clients.clone();
        let limit = self.response_bytes;
        let wait = |asked: Option<Duration>, most: Duration| {
            asked.unwrap_or(most).clamp(Duration::from_millis(1), most)
        };
        let connect = wait(options.and_then(|options| options.connect_timeout), CONNECT);
        let first_byte = wait(options.and_then(|options| options.first_byte_timeout), QUIET);
        let between_bytes = wait(options.and_then(|options| options.between_bytes_timeout), QUIET);
        Box::new(async move {
            let client = clients.of(&authority.verify)?;
            let sent = tokio::time::timeout(connect.saturating_add(first_byte), client.request(request));
            let response = sent.await.map_err(|_| Error::HttpResponseTimeout)?.map_err(client::explain)?;
            let response = response.map(|incoming| body::limited(incoming, limit, between_bytes));
            let io: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(async { Ok(()) });
            Ok((response, io))
        })
    }
}
