//! Whom a component may speak to: scheme, host and port, and what the host adds to a request.

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Uri};
use serde::Deserialize;

use crate::address::{Network, Reach};

/// An authority that the configuration names, as JSON.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityOptions {
    /// `http://host:port` or `https://host:port`; a path is allowed and not looked at.
    pub url: String,
    /// Headers that the host adds to every request to it.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Cookies that the host adds.
    #[serde(default)]
    pub cookies: BTreeMap<String, String>,
    /// Whether Ray's own token is sent, where there is one.
    #[serde(default)]
    pub ray_token: bool,
    /// How its certificate is checked: `true` against well-known authorities, `false` not at all,
    /// or the path of a file with certificates to trust.
    #[serde(default)]
    pub verify: Verify,
}

/// How a server's certificate is checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(untagged)]
pub enum Verify {
    /// Against well-known authorities, or not at all.
    Switch(bool),
    /// Against the certificates of a PEM file.
    Bundle(PathBuf),
}

impl Default for Verify {
    fn default() -> Self {
        Self::Switch(true)
    }
}

/// Why an authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The URL is none.
    #[error("address {url:?}: {problem}. Write http://host:port or https://host:port")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A header cannot be sent.
    #[error("header {name:?} for {url}: {problem}")]
    Header {
        /// The authority.
        url: String,
        /// The header.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// A scheme with a host and a port, to compare.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: Scheme,
    host: String,
    port: u16,
}

impl Origin {
    /// The origin that a request really goes to; none where it has no scheme or host.
    pub fn of(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme()?.clone();
        let port = uri.port_u16().unwrap_or(if scheme == Scheme::HTTPS { 443 } else { 80 });
        Some(Self { scheme, host: uri.host()?.trim_end_matches('.').to_ascii_lowercase(), port })
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

/// An authority that may be reached, with what the host adds to requests to it.
#[derive(Debug, Clone)]
pub struct Authority {
    /// Where it is.
    pub origin: Origin,
    /// Header fields for every request to it, cookies included.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether Ray's own token is sent, where there is one.
    pub ray_token: bool,
    /// How its certificate is checked.
    pub verify: Verify,
    /// Which addresses its name may resolve to.
    pub reach: Reach,
}

/// Where an address that the operator names may lead: a Ray head has a private address, or runs here.
const OPERATORS: [Network; 2] = [Network::Private, Network::Loopback];

impl Authority {
    /// Checks what the configuration says of an authority.
    ///
    /// # Errors
    /// Where the URL is none, its scheme is not http or https, or a header is not one.
    pub fn new(options: AuthorityOptions) -> Result<Self, PolicyError> {
        let url = options.url;
        let wrong = |problem: &str| PolicyError::Url { url: url.clone(), problem: problem.to_owned() };
        let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| wrong(&error.to_string()))?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
            Some(other) => return Err(wrong(&format!("the scheme is {other}, not http or https"))),
            None => return Err(wrong("it has no scheme")),
        }
        let origin = Origin::of(&uri).ok_or_else(|| wrong("it has no host"))?;
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
            reach: Reach::of(OPERATORS),
        })
    }

    /// The authority that an entry of a manifest names: scheme, host and port, and nothing else. None
    /// where it is none.
    pub fn named(entry: &str) -> Option<Self> {
        let uri: Uri = entry.parse().ok()?;
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
        let authority = uri.authority()?.as_str();
        if !is_bare || !is_known || authority.contains(['@', '*']) {
            return None;
        }
        Some(Self {
            origin: Origin::of(&uri)?,
            headers: Vec::new(),
            ray_token: false,
            verify: Verify::default(),
            reach: Reach::default(),
        })
    }
}
