//! Parses a Kubernetes API request into verb, group, version, resource, namespace and name.
//!
//! The rules are those of the API server's `RequestInfoFactory`, whose result its authorizers use:
//! <https://github.com/kubernetes/kubernetes/blob/v1.36.0/staging/src/k8s.io/apiserver/pkg/endpoints/request/requestinfo.go>.
//! A path that two parsers could interpret differently is rejected, and the request is sent with a
//! path rebuilt from the checked parts.

use std::fmt;

use http::uri::PathAndQuery;
use http::{Method, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

/// Characters of a path segment that are percent-encoded.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// A verb of Kubernetes RBAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Reads one object by name.
    Get,
    /// Reads a collection.
    List,
    /// Watches a collection.
    Watch,
    /// Creates an object.
    Create,
    /// Replaces an object.
    Update,
    /// Patches an object.
    Patch,
    /// Deletes one object.
    Delete,
    /// Deletes a collection.
    DeleteCollection,
}

impl Verb {
    /// Every verb.
    pub(crate) const ALL: [Self; 8] = [
        Self::Get,
        Self::List,
        Self::Watch,
        Self::Create,
        Self::Update,
        Self::Patch,
        Self::Delete,
        Self::DeleteCollection,
    ];
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        })
    }
}

/// The attributes of a resource request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestInfo {
    /// The verb.
    pub verb: Verb,
    /// The API group; empty for the core group.
    pub group: String,
    /// The API version.
    pub version: String,
    /// The resource, with its subresource: `pods`, `pods/log`.
    pub resource: String,
    /// The namespace; none for a cluster-scoped request.
    pub namespace: Option<String>,
    /// The object's name; none for a collection.
    pub name: Option<String>,
}

/// A parsed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The request's attributes; none for `GET /version`, the only allowed path without a resource.
    pub info: Option<RequestInfo>,
    /// The path and query to send.
    pub target: PathAndQuery,
}

/// Why a request is rejected before authorization.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The path is ambiguous: two parsers could interpret it differently.
    #[error("the path {0:?} {1}")]
    Path(String, &'static str),
    /// The query is ambiguous: two parsers could interpret it differently.
    #[error("the query {0:?} {1}")]
    Query(String, &'static str),
    /// The API has no verb for the method.
    #[error("the API has no verb for {0}")]
    Method(Method),
    /// The path names no resource.
    #[error(
        "the path {0:?} names no resource; write /api/<version>/… or /apis/<group>/<version>/…. Of the other paths only GET /version is served"
    )]
    NonResource(String),
}

/// Parses a request.
///
/// # Errors
/// If the path names no resource, or the path or query is ambiguous.
pub fn parse(method: &Method, uri: &Uri) -> Result<Parsed, Malformed> {
    let segments = segments(uri.path())?;
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let non_resource = || Malformed::NonResource(uri.path().to_owned());
    if *method == Method::GET && parts == ["version"] {
        return Ok(Parsed { info: None, target: PathAndQuery::from_static("/version") });
    }
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return Err(non_resource()),
    };
    if matches!(rest.first(), Some(&"watch" | &"proxy")) {
        // These prefixes change the verb: with `watch/`, a GET of one object is a watch.
        return Err(Malformed::Path(
            uri.path().to_owned(),
            "has a prefix that Kubernetes deprecated; write ?watch=true",
        ));
    }
    let (namespace, parts) = match rest {
        ["namespaces", namespace, "status" | "finalize", ..] => (Some(*namespace), rest),
        ["namespaces", namespace, parts @ ..] if !parts.is_empty() => (Some(*namespace), parts),
        ["namespaces", namespace] => (Some(*namespace), rest),
        _ => (None, rest),
    };
    let (kind, name, subresource) = match parts {
        [kind, name, subresource, ..] => (*kind, Some(*name), Some(*subresource)),
        [kind, name] => (*kind, Some(*name), None),
        [kind] => (*kind, None, None),
        [] => return Err(non_resource()),
    };
    let watch = is_watch(uri.query().unwrap_or_default())?;
    let verb = match (method.as_str(), name) {
        ("GET" | "HEAD", Some(_)) => Verb::Get,
        ("GET" | "HEAD", None) if watch => Verb::Watch,
        ("GET" | "HEAD", None) => Verb::List,
        ("POST", _) => Verb::Create,
        ("PUT", _) => Verb::Update,
        ("PATCH", _) => Verb::Patch,
        ("DELETE", Some(_)) => Verb::Delete,
        ("DELETE", None) => Verb::DeleteCollection,
        _ => return Err(Malformed::Method(method.clone())),
    };
    let info = RequestInfo {
        verb,
        group: group.to_owned(),
        version: version.to_owned(),
        resource: subresource.map_or_else(|| kind.to_owned(), |subresource| format!("{kind}/{subresource}")),
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
    };
    Ok(Parsed { info: Some(info), target: target(&segments, uri)? })
}

/// Returns the segments of a path, decoded once. Rejects a path that another parser could split or
/// decode differently.
fn segments(path: &str) -> Result<Vec<String>, Malformed> {
    let wrong = |problem| Malformed::Path(path.to_owned(), problem);
    let relative = path.strip_prefix('/').ok_or_else(|| wrong("does not begin with a slash"))?;
    relative
        .split('/')
        .map(|segment| {
            let decoded =
                percent_decode_str(segment).decode_utf8().map_err(|_| wrong("is not UTF-8"))?.into_owned();
            match decoded.as_str() {
                "" => Err(wrong("has an empty segment")),
                "." | ".." => Err(wrong("has a dot segment")),
                text if text.contains('/') => Err(wrong("has an encoded slash")),
                // Covers double encoding and invalid escapes such as `%zz`.
                text if text.contains('%') => Err(wrong("has an encoded percent sign")),
                text if text.chars().any(|c| c.is_control() || c == '\\') => {
                    Err(wrong("has a control character or a backslash"))
                }
                _ => Ok(decoded),
            }
        })
        .collect()
}

/// Returns whether a query requests a watch, like Go's `url.ParseQuery` and Kubernetes' conversion of
/// booleans: the first `watch` counts, and any value except `false` and `0` is true.
fn is_watch(query: &str) -> Result<bool, Malformed> {
    let wrong = |problem| Malformed::Query(query.to_owned(), problem);
    if query.contains(';') {
        return Err(wrong("has a semicolon, which has to be encoded"));
    }
    let mut watch = None;
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !is_escaped(key) || !is_escaped(value) {
            return Err(wrong("has a percent sign that is not an escape"));
        }
        let decoded =
            |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        if watch.is_none() && decoded(key) == "watch" {
            let value = decoded(value).to_ascii_lowercase();
            watch = Some(value != "false" && value != "0");
        }
    }
    Ok(watch.unwrap_or(false))
}

fn is_escaped(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| {
        let mut digits = rest.bytes();
        matches!((digits.next(), digits.next()), (Some(a), Some(b)) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
    })
}

fn target(segments: &[String], uri: &Uri) -> Result<PathAndQuery, Malformed> {
    let mut text = String::new();
    for segment in segments {
        text.push('/');
        text.extend(utf8_percent_encode(segment, SEGMENT));
    }
    if let Some(query) = uri.query() {
        text.push('?');
        text.push_str(query);
    }
    PathAndQuery::try_from(text).map_err(|_| Malformed::Path(uri.path().to_owned(), "cannot be sent"))
}

#[cfg(test)]
mod tests;
