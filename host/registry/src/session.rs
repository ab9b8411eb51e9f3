//! The requests of a pull. The size of each response is limited, because a registry may send one without an end.

use dagster_ray_policy::audit::{AuditEvent, AuditLine, TARGET};
use http_auth::parser::ChallengeParser;
use oci_client::errors::{OciDistributionError, OciEnvelope};
use oci_client::secrets::RegistryAuth;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use crate::artifact::Blob;
use crate::client::{
    CONNECT_TIMEOUT, READ_TIMEOUT, RESPONSE_TIMEOUT, USER_AGENT, explain, root_cause, within,
};
use crate::credentials;
use crate::error::RegistryError;
use crate::reference::Reference;

/// Maximum size of a token's response, in bytes.
const MAX_TOKEN_BYTES: u64 = 1 << 20;
/// Maximum size of an image manifest, in bytes. The OCI distribution specification has registries accept at least
/// this size.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// How much of an error's body is read, in bytes.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// A pull from one registry.
pub(crate) struct Session<'a> {
    reference: &'a Reference,
    client: Client,
    authorization: Option<HeaderValue>,
}

/// The response to a request for a token.
#[derive(Deserialize)]
struct Token {
    #[serde(alias = "access_token")]
    token: String,
}

/// A server that issues tokens.
pub(crate) struct TokenServer {
    pub(crate) realm: Url,
    service: Option<String>,
}

impl<'a> Session<'a> {
    /// Authenticates with the registry of `reference` as the registry asks.
    pub(crate) async fn open(reference: &'a Reference) -> Result<Self, RegistryError> {
        // Fails if the process has installed a provider before. Any provider works.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .user_agent(USER_AGENT)
            .build()
            .map_err(|error| RegistryError::Internal(error.to_string()))?;
        let mut session = Self { reference, client, authorization: None };
        session.authorization = within(RESPONSE_TIMEOUT, reference, session.authenticate()).await?;
        Ok(session)
    }

    /// Returns the image manifest, which is not compared with its digest.
    pub(crate) async fn manifest(&self, accepted: &[&str]) -> Result<Vec<u8>, RegistryError> {
        let oci = self.reference.as_oci();
        let version = oci.digest().or(oci.tag()).unwrap_or("latest");
        let request = self.get(&format!("manifests/{version}"))?.header(ACCEPT, accepted.join(", "));
        let manifest = async {
            let response = self.successful(request).await?;
            self.content(response, "the image manifest", MAX_MANIFEST_BYTES).await
        };
        within(RESPONSE_TIMEOUT, self.reference, manifest).await
    }

    /// Returns a blob, which is not compared with its digest. It has the size of its descriptor.
    pub(crate) async fn blob(&self, blob: &Blob) -> Result<Vec<u8>, RegistryError> {
        let request = self.get(&format!("blobs/sha256:{}", blob.sha256))?;
        let mut response = self.successful(request).await?;
        let mut content = Vec::new();
        let complete = loop {
            match response.chunk().await {
                Ok(Some(chunk)) => content.extend_from_slice(&chunk),
                Ok(None) => break content.len() as u64 == blob.size,
                Err(error) => {
                    tracing::debug!("{}", root_cause(&error));
                    break false;
                }
            }
            if content.len() as u64 > blob.size {
                break false;
            }
        };
        if complete {
            return Ok(content);
        }
        Err(RegistryError::Incomplete {
            reference: self.reference.to_string(),
            found: content.len() as u64,
            expected: blob.size,
        })
    }

    /// Returns the value of the header `Authorization`, if the registry asks for one.
    async fn authenticate(&self) -> Result<Option<HeaderValue>, RegistryError> {
        let credentials = credentials::for_registry(self.reference.registry())?;
        let response = self.sent(self.client.get(self.url("")?)).await?;
        let challenges = challenges(response.headers());
        if challenges.is_empty() {
            return Ok(None);
        }
        let server = challenges.iter().find_map(|challenge| TokenServer::read(challenge));
        let Some(server) = server else {
            let RegistryAuth::Basic(user, password) = &credentials else { return Ok(None) };
            let request = self.client.get(self.url("")?).basic_auth(user, Some(password)).build();
            let request = request.map_err(|error| RegistryError::Internal(error.to_string()))?;
            self.audit(self.reference.registry());
            return Ok(request.headers().get(AUTHORIZATION).cloned());
        };
        let request = self.token_request(server, &credentials)?;
        let response = self.sent(request).await?;
        if response.status() != StatusCode::OK {
            let reason = String::from_utf8_lossy(&beginning(response).await).into_owned();
            return Err(explain(self.reference, OciDistributionError::AuthenticationFailure(reason)));
        }
        let content = self.content(response, "the token", MAX_TOKEN_BYTES).await?;
        // The parser's message could quote the token.
        let token: Token = serde_json::from_slice(&content)
            .map_err(|_| self.invalid("the response of the token server has no text under `token`"))?;
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.token))
            .map_err(|_| self.invalid("the token has characters that a header cannot have"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// Returns the request for a token. The registry names the server, so that the password is sent only encrypted.
    fn token_request(
        &self,
        server: TokenServer,
        credentials: &RegistryAuth,
    ) -> Result<RequestBuilder, RegistryError> {
        if server.realm.scheme() != "https" && !self.reference.is_loopback() {
            let problem = format!("its token server {} does not use https", server.realm);
            return Err(self.invalid(&problem));
        }
        let scope = format!("repository:{}:pull", self.reference.as_oci().repository());
        let mut query = vec![("scope", scope)];
        query.extend(server.service.map(|service| ("service", service)));
        let realm = server.realm.origin().ascii_serialization();
        let request = self.client.get(server.realm).query(&query);
        Ok(match credentials {
            RegistryAuth::Basic(user, password) => {
                self.audit(&realm);
                request.basic_auth(user, Some(password))
            }
            _ => request,
        })
    }

    /// Logs the use of the user's password in the audit trail.
    fn audit(&self, authority: &str) {
        let event = AuditEvent::Credential { authority, credential: "docker login" };
        let component = self.reference.to_string();
        let line = AuditLine { event, component: &component, digest: "", export: "pull", runs: &[] };
        tracing::info!(target: TARGET, "{line}");
    }

    fn url(&self, path: &str) -> Result<Url, RegistryError> {
        let scheme = if self.reference.is_loopback() { "http" } else { "https" };
        let text = format!("{scheme}://{}/v2/{path}", self.reference.as_oci().resolve_registry());
        Url::parse(&text).map_err(|error| self.invalid(&format!("{text} is not a URL: {error}")))
    }

    /// Returns a request for a part of the artifact.
    fn get(&self, path: &str) -> Result<RequestBuilder, RegistryError> {
        let url = self.url(&format!("{}/{path}", self.reference.as_oci().repository()))?;
        let request = self.client.get(url);
        Ok(match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        })
    }

    async fn sent(&self, request: RequestBuilder) -> Result<Response, RegistryError> {
        request.send().await.map_err(|error| self.unavailable(root_cause(&error)))
    }

    /// Sends a request. A response with another status than 200 is an error.
    async fn successful(&self, request: RequestBuilder) -> Result<Response, RegistryError> {
        let response = self.sent(request).await?;
        let (status, url) = (response.status(), response.url().to_string());
        if status == StatusCode::OK {
            return Ok(response);
        }
        // The error's text may have no end, or arrive byte by byte.
        let body = within(RESPONSE_TIMEOUT, self.reference, async { Ok(beginning(response).await) }).await?;
        let error = match serde_json::from_slice::<OciEnvelope>(&body) {
            _ if status == StatusCode::UNAUTHORIZED => OciDistributionError::UnauthorizedError { url },
            Ok(envelope) if status.is_client_error() => OciDistributionError::RegistryError { envelope, url },
            _ => {
                let message = String::from_utf8_lossy(&body).into_owned();
                OciDistributionError::ServerError { code: status.as_u16(), url, message }
            }
        };
        Err(explain(self.reference, error))
    }

    /// Reads a response of at most `limit` bytes.
    async fn content(
        &self,
        mut response: Response,
        what: &str,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut content = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| self.unavailable(root_cause(&error)))?
        {
            content.extend_from_slice(&chunk);
            if content.len() as u64 > limit {
                return Err(self.invalid(&format!("{what} is longer than the limit of {limit} bytes")));
            }
        }
        Ok(content)
    }

    fn unavailable(&self, problem: String) -> RegistryError {
        RegistryError::Unavailable { reference: self.reference.to_string(), problem }
    }

    fn invalid(&self, problem: &str) -> RegistryError {
        RegistryError::NotAComponent { reference: self.reference.to_string(), problem: problem.to_owned() }
    }
}

impl TokenServer {
    /// Reads a challenge, as in `Bearer realm="https://auth.example/token",service="registry.example"`.
    pub(crate) fn read(challenge: &str) -> Option<Self> {
        let challenge = ChallengeParser::new(challenge)
            .filter_map(Result::ok)
            .find(|challenge| challenge.scheme.eq_ignore_ascii_case("bearer"))?;
        let parameter = |name: &str| {
            let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        Some(Self { realm: Url::parse(&parameter("realm")?).ok()?, service: parameter("service") })
    }
}

fn challenges(headers: &HeaderMap) -> Vec<&str> {
    headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect()
}

/// Returns the beginning of a response that is an error.
async fn beginning(mut response: Response) -> Vec<u8> {
    let mut content = Vec::new();
    while content.len() < MAX_ERROR_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        content.extend_from_slice(&chunk);
    }
    content.truncate(MAX_ERROR_BYTES);
    content
}
