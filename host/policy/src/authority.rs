//! HTTP authorities (scheme, host and port) and the credentials that the host adds to requests.

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Uri};
use serde::Deserialize;

use crate::address::{AllowedNetworks, Network};

/// An HTTP authority of the configuration, as JSON.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityOptions {
    /// `http://host:port` or `https://host:port`. A path is ignored. `http://svc` stands for every granted Service of
    /// the Kubernetes cluster.
    pub url: String,
    /// Headers that the host adds to every request to the authority.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Cookies that the host adds to every request to the authority.
    #[serde(default)]
    pub cookies: BTreeMap<String, String>,
    /// Whether to send Ray's authentication token, if one exists.
    #[serde(default)]
    pub ray_token: bool,
    /// How to verify the server's certificate: `true` against the certificate authorities of the system and
    /// well-known ones, or of the variables `REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE`, `SSL_CERT_FILE` and
    /// `SSL_CERT_DIR`; `false` not at all; or the path of a PEM file or directory with certificates to trust.
    #[serde(default)]
    pub verify: Verify,
}

/// How to verify a server's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(untagged)]
pub enum Verify {
    /// Against the certificate authorities of this machine, or not at all.
    Switch(bool),
    /// Against the certificates of a PEM file or a directory.
    Bundle(PathBuf),
}

impl Default for Verify {
    fn default() -> Self {
        Self::Switch(true)
    }
}

/// Why an authority is invalid.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The URL is invalid.
    #[error("address {url:?}: {problem}. Write http://host:port or https://host:port")]
    Url {
        /// The URL as given.
        url: String,
        /// What is wrong with the URL.
        problem: String,
    },
    /// A header is invalid.
    #[error("header {name:?} for {url}: {problem}")]
    Header {
        /// The authority.
        url: String,
        /// The header's name.
        name: String,
        /// What is wrong with the header.
        problem: String,
    },
}

/// Scheme, host and port, normalized for comparison.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: Scheme,
    host: String,
    port: u16,
}

impl Origin {
    /// Returns the origin that a request is sent to, or none without a scheme or host.
    pub fn from_uri(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme()?.clone();
        let port = uri.port_u16().unwrap_or(if scheme == Scheme::HTTPS { 443 } else { 80 });
        Some(Self { scheme, host: uri.host()?.trim_end_matches('.').to_ascii_lowercase(), port })
    }

    /// Returns whether this stands for every Service of the Kubernetes cluster. No Service has this host name.
    pub fn is_every_service(&self) -> bool {
        self.host == "svc"
    }

    /// Returns whether connections use TLS.
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

/// An HTTP authority with the credentials that the host adds to requests.
#[derive(Debug, Clone)]
pub struct Authority {
    /// Scheme, host and port.
    pub origin: Origin,
    /// Headers for every request to the authority, cookies included.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether to send Ray's authentication token, if one exists.
    pub ray_token: bool,
    /// How to verify the server's certificate.
    pub verify: Verify,
    /// The addresses that the host name may resolve to.
    pub allowed_networks: AllowedNetworks,
}

/// Networks of the addresses that the operator configures: a Ray head usually has a private address or
/// runs on this machine.
const OPERATOR_NETWORKS: [Network; 2] = [Network::Private, Network::Loopback];

impl Authority {
    /// Validates an authority of the configuration.
    ///
    /// # Errors
    /// If the URL or a header is invalid, or the scheme is not http or https.
    pub fn new(options: AuthorityOptions) -> Result<Self, PolicyError> {
        let url = options.url;
        let wrong = |problem: &str| PolicyError::Url { url: url.clone(), problem: problem.to_owned() };
        let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| wrong(&error.to_string()))?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
            Some(other) => return Err(wrong(&format!("the scheme is {other}, not http or https"))),
            None => return Err(wrong("it has no scheme")),
        }
        let origin = Origin::from_uri(&uri).ok_or_else(|| wrong("it has no host"))?;
        let header = |name: &str, value: &str| {
            let problem =
                |problem: String| PolicyError::Header { url: url.clone(), name: name.to_owned(), problem };
            let key = HeaderName::try_from(name).map_err(|error| problem(error.to_string()))?;
            let mut value = HeaderValue::try_from(value).map_err(|error| problem(error.to_string()))?;
            value.set_sensitive(true);
            Ok((key, value))
        };
        let mut headers =
            options.headers.iter().map(|(name, value)| header(name, value)).collect::<Result<Vec<_>, _>>()?;
        if !options.cookies.is_empty() {
            let pairs: Vec<_> =
                options.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            headers.push(header("cookie", &pairs.join("; "))?);
        }
        Ok(Self {
            origin,
            headers,
            ray_token: options.ray_token,
            verify: options.verify,
            allowed_networks: AllowedNetworks::new(OPERATOR_NETWORKS),
        })
    }

    /// Parses an entry of a manifest's `http` grant. Returns none unless it is exactly scheme, host and
    /// port.
    pub fn from_manifest_entry(entry: &str) -> Option<Self> {
        let uri: Uri = entry.parse().ok()?;
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
        let authority = uri.authority()?.as_str();
        if !is_bare || !is_known || authority.contains(['@', '*']) {
            return None;
        }
        Some(Self {
            origin: Origin::from_uri(&uri)?,
            headers: Vec::new(),
            ray_token: false,
            verify: Verify::default(),
            allowed_networks: AllowedNetworks::default(),
        })
    }
}
