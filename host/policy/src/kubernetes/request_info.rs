//! What a request asks of the Kubernetes API: verb, group, version, resource, namespace, name.
//!
//! The rules are those of the API server's own `RequestInfoFactory`, which its authorizers decide on:
//! <https://github.com/kubernetes/kubernetes/blob/v1.36.0/staging/src/k8s.io/apiserver/pkg/endpoints/request/requestinfo.go>.
//! It is stricter where two readers of one path could differ: such a path is refused, and what goes
//! out is written anew from the parts that were checked.

use std::fmt;

use http::uri::PathAndQuery;
use http::{Method, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

/// What stays as it is in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// What a request does, in the words of Kubernetes' RBAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Reads one object, by its name.
    Get,
    /// Reads a collection.
    List,
    /// Follows a collection.
    Watch,
    /// Makes an object.
    Create,
    /// Replaces an object.
    Update,
    /// Changes parts of an object.
    Patch,
    /// Removes one object.
    Delete,
    /// Removes a collection.
    DeleteCollection,
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

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestInfo {
    /// What it does.
    pub verb: Verb,
    /// The API group; empty for the core group.
    pub group: String,
    /// The version of the group.
    pub version: String,
    /// The resource, with its subresource: `pods`, `pods/log`.
    pub resource: String,
    /// The namespace; none where the request is about the whole cluster.
    pub namespace: Option<String>,
    /// The object; none where the request is about a collection.
    pub name: Option<String>,
}

/// A request that can be decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// What it is about; none for `GET /version`, the one path without a resource.
    pub info: Option<RequestInfo>,
    /// What is sent.
    pub target: PathAndQuery,
}

/// Why a request cannot be decided on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Two readers could read its path differently.
    #[error("the path {0:?} {1}")]
    Path(String, &'static str),
    /// Two readers could read its query differently.
    #[error("the query {0:?} {1}")]
    Query(String, &'static str),
    /// The method means nothing to the API.
    #[error("the API has no verb for {0}")]
    Method(Method),
    /// It is about no resource.
    #[error(
        "the path {0:?} names no resource; write /api/<version>/… or /apis/<group>/<version>/…. Of the other paths only GET /version is served"
    )]
    NonResource(String),
}

/// Reads a request.
///
/// # Errors
/// Where it is about no resource, or two readers could read it differently.
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
        // They turn the verb around: with the prefix, a GET of one object is a watch.
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
    let watch = watches(uri.query().unwrap_or_default())?;
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

/// The segments of a path, decoded once. What another reader could split or decode otherwise is
/// refused.
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
                // Also what is left of an escape that is none.
                text if text.contains('%') => Err(wrong("has an encoded percent sign")),
                text if text.chars().any(|c| c.is_control() || c == '\\') => {
                    Err(wrong("has a control character or a backslash"))
                }
                _ => Ok(decoded),
            }
        })
        .collect()
}

/// Whether a query asks for a watch, as Go's `url.ParseQuery` and Kubernetes' conversion of booleans
/// read it: the first `watch` counts, and everything but `false` and `0` is true.
fn watches(query: &str) -> Result<bool, Malformed> {
    let wrong = |problem| Malformed::Query(query.to_owned(), problem);
    if query.contains(';') {
        return Err(wrong("has a semicolon, which has to be encoded"));
    }
    let mut watch = None;
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !is_escaped(key) || !is_escaped(value) {
            return Err(wrong("has a percent sign that escapes nothing"));
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
