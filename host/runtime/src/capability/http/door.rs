//! The HTTP egress pipeline: interceptor, cassette and route of an allowed request.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use dagster_ray_policy::Authority;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use wasmtime_wasi_http::{Error, WasiBody};

use super::body::{Room, cut, limited};
use super::cassette::Tape;
use super::client::{Clients, explain, prohibited};
use super::intercept::{Fate, Intercept};
use super::{Denials, Waits, credentials};
use crate::bindings::dagster_ray::host::model::Denial;
use crate::capability::kubernetes::{self, Admitted, Cluster, Services};

/// The egress pipeline. Without interceptor and cassette, requests are streamed directly.
#[derive(Clone, Default)]
pub(crate) struct Door {
    pub(crate) intercept: Option<Arc<dyn Intercept>>,
    pub(crate) tape: Option<Tape>,
}

/// The destination of a request.
pub(super) enum Route {
    Kubernetes(Arc<Cluster>, Admitted),
    Service(Services, Option<Authority>),
    Authority(Clients, Authority, Denials),
}

impl Route {
    /// Returns the credentials that are added to the request and must not be recorded.
    fn credentials(&self) -> Vec<String> {
        match self {
            Self::Kubernetes(..) | Self::Service(_, None) => Vec::new(),
            Self::Service(_, Some(authority)) | Self::Authority(_, authority, _) => {
                credentials::of(authority)
            }
        }
    }

    /// Returns the limit of the response body. A watch lasts as long as its call, and each event is one
    /// line.
    fn room(&self, response_bytes: u64) -> Room {
        match self {
            Self::Kubernetes(_, admitted) if admitted.is_watch() => Room::Line(response_bytes),
            _ => Room::Body(response_bytes),
        }
    }

    async fn send(
        self,
        mut request: Request<WasiBody>,
        waits: Waits,
        response_bytes: u64,
    ) -> Result<Response<WasiBody>, Error> {
        match self {
            Self::Kubernetes(cluster, admitted) => {
                kubernetes::send(&cluster, admitted, request, waits, response_bytes).await
            }
            Self::Service(services, authority) => {
                if let Some(authority) = authority {
                    credentials::add(&authority, request.headers_mut());
                }
                services.send(request, waits, response_bytes).await
            }
            Self::Authority(clients, authority, denials) => {
                credentials::add(&authority, request.headers_mut());
                let client = clients.of(&authority)?;
                let sent = tokio::time::timeout(waits.head(), client.request(request));
                let response = sent.await.map_err(|_| Error::HttpResponseTimeout)?.map_err(|error| {
                    if let Some((why, grant)) = prohibited(&error) {
                        let target = format!("{} ({why})", authority.origin);
                        denials.push(Denial { capability: "http".into(), target, grant });
                    }
                    explain(error)
                })?;
                let room = Room::Body(response_bytes);
                Ok(response.map(|incoming| limited(incoming, room, waits.between_bytes)))
            }
        }
    }
}

impl Door {
    /// Sends a request through the interceptor and the cassette.
    pub(super) async fn pass(
        self,
        route: Route,
        request: Request<WasiBody>,
        waits: Waits,
        response_bytes: u64,
    ) -> Result<Response<WasiBody>, Error> {
        let Self { intercept, tape } = self;
        if intercept.is_none() && tape.is_none() {
            return route.send(request, waits, response_bytes).await;
        }
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, body.collect().await?.to_bytes());
        let fate = intercept.as_ref().map_or(Fate::Pass, |intercept| intercept.decide(&request));
        match &fate {
            Fate::Pass | Fate::LoseAnswer | Fate::CutAnswer(_) => {}
            Fate::Refuse => return Err(Error::ConnectionRefused),
            Fate::Reset => return Err(Error::ConnectionTerminated),
            Fate::Answer(status, text) => {
                let mut response = Response::new(whole(text.clone().into()));
                *response.status_mut() = *status;
                let plain = HeaderValue::from_static("text/plain; charset=utf-8");
                response.headers_mut().insert(CONTENT_TYPE, plain);
                return Ok(response);
            }
        }
        let seen = intercept.map(|intercept| (intercept, request.clone()));
        let credentials = route.credentials();
        let is_played = matches!(tape, Some(Tape::Playing(_)));
        let room = route.room(response_bytes);
        let send = |request: Request<Bytes>| route.send(request.map(whole), waits, response_bytes);
        let outcome = match tape {
            Some(tape) => tape.pass(request, credentials, send).await,
            None => send(request).await,
        };
        if let Some((intercept, request)) = seen {
            intercept.answered(&request, outcome.as_ref().ok().map(Response::status));
        }
        let response = outcome?;
        if fate == Fate::LoseAnswer {
            // Read the response to its end, so that the server has certainly applied the request.
            response.into_body().collect().await?;
            return Err(Error::ConnectionTerminated);
        }
        let response =
            if is_played { response.map(|body| limited(body, room, waits.between_bytes)) } else { response };
        Ok(match fate {
            Fate::CutAnswer(after) => response.map(|body| cut(body, after)),
            _ => response,
        })
    }
}

fn whole(bytes: Bytes) -> WasiBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// Converts a future response to the type that wasmtime expects, without further connection work.
pub(super) fn answered(
    response: impl Future<Output = Result<Response<WasiBody>, Error>> + Send + 'static,
) -> Box<dyn Future<Output = Result<super::Answer, Error>> + Send> {
    Box::new(async move {
        let io: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(async { Ok(()) });
        Ok((response.await?, io))
    })
}
