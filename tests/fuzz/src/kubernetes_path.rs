//! Requests to the Kubernetes API: the request that is sent is the one that was checked, and the API server
//! reads it in the same way.
//!
//! The first byte selects the method; the rest is the URI.

use dagster_ray_policy::kubernetes::request_info::{Parsed, RequestInfo, parse};
use dagster_ray_policy::kubernetes::{Rule, ServiceName, grant};
use dagster_ray_policy::manifest::Grants;
use http::{Method, Uri};
use percent_encoding::percent_decode_str;

const METHODS: [Method; 8] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
    Method::CONNECT,
];

/// Checks the properties for one input. Panics if one is violated.
pub fn check(data: &[u8]) {
    let Some((&method, uri)) = data.split_first() else { return };
    let method = &METHODS[usize::from(method) % METHODS.len()];
    let Ok(uri) = Uri::try_from(uri) else { return };
    services(&uri);
    let Ok(parsed) = parse(method, &uri) else { return };

    let sent = Uri::from(parsed.target.clone());
    assert_eq!(
        parse(method, &sent).as_ref(),
        Ok(&parsed),
        "the request that is sent is parsed differently: {sent}"
    );
    assert_eq!(sent.query(), uri.query().filter(|_| parsed.info.is_some()));
    for segment in sent.path().split('/').skip(1) {
        let decoded = percent_decode_str(segment).decode_utf8().expect("text");
        assert!(!["", ".", ".."].contains(&decoded.as_ref()), "{sent}");
        assert!(!decoded.contains(['/', '\\', '%']), "{sent}");
        assert!(!decoded.chars().any(char::is_control), "{sent}");
    }

    match as_the_server(method, &sent) {
        None => assert_eq!((parsed.info, sent.path()), (None, "/version")),
        Some(read) => {
            assert_eq!(parsed.info.as_ref().map(Read::from), Some(read), "{method} {sent}");
            granted(&parsed);
        }
    }
}

/// The attributes of a request, as the API server defines them.
#[derive(Debug, PartialEq)]
struct Read {
    verb: String,
    group: String,
    version: String,
    resource: String,
    namespace: String,
    name: String,
}

impl From<&RequestInfo> for Read {
    fn from(info: &RequestInfo) -> Self {
        Self {
            verb: info.verb.to_string(),
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            namespace: info.namespace.clone().unwrap_or_default(),
            name: info.name.clone().unwrap_or_default(),
        }
    }
}

/// A port of the API server's `NewRequestInfo`. Returns `None` for a request without a resource. The
/// selector `metadata.name`, which only adds a name, is left out.
/// <https://github.com/kubernetes/kubernetes/blob/v1.36.0/staging/src/k8s.io/apiserver/pkg/endpoints/request/requestinfo.go>
fn as_the_server(method: &Method, uri: &Uri) -> Option<Read> {
    let path = percent_decode_str(uri.path()).decode_utf8().expect("text").into_owned();
    let mut parts: Vec<&str> = match path.trim_matches('/') {
        "" => Vec::new(),
        path => path.split('/').collect(),
    };
    if parts.len() < 3 || !["api", "apis"].contains(&parts[0]) {
        return None;
    }
    let mut group = "";
    if parts.remove(0) == "apis" {
        if parts.len() < 3 {
            return None;
        }
        group = parts.remove(0);
    }
    let version = parts.remove(0);
    let mut verb = match method.as_str() {
        "POST" => "create",
        "GET" | "HEAD" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    };
    let has_special_verb = ["proxy", "watch"].contains(&parts[0]);
    if has_special_verb {
        assert!(parts.len() >= 2, "the server would reject {uri}");
        verb = parts.remove(0);
    }
    let mut namespace = "";
    if parts[0] == "namespaces" && parts.len() > 1 {
        namespace = parts[1];
        if parts.len() > 2 && !["status", "finalize"].contains(&parts[2]) {
            parts.drain(..2);
        }
    }
    let mut resource = parts[0].to_owned();
    let name = parts.get(1).copied().unwrap_or_default();
    if let Some(subresource) = parts.get(2).filter(|_| !has_special_verb) {
        resource = format!("{resource}/{subresource}");
    }
    if name.is_empty() && verb == "get" {
        verb = if watches(uri.query().unwrap_or_default()) { "watch" } else { "list" };
    }
    if name.is_empty() && verb == "delete" {
        verb = "deletecollection";
    }
    Some(Read {
        verb: verb.to_owned(),
        group: group.to_owned(),
        version: version.to_owned(),
        resource,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

/// Returns whether a query asks for a watch: Go's `url.ParseQuery`, which skips invalid pairs, and
/// Kubernetes' parsing of booleans.
fn watches(query: &str) -> bool {
    let unescape = |text: &str| {
        let whole = text
            .split('%')
            .skip(1)
            .all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|digit| digit.is_ascii_hexdigit()));
        let spaced = text.replace('+', " ");
        whole.then(|| percent_decode_str(&spaced).collect::<Vec<u8>>())
    };
    query
        .split('&')
        .filter(|pair| !pair.contains(';'))
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((unescape(key)?, unescape(value)?))
        })
        .find(|(key, _)| key == b"watch")
        .is_some_and(|(_, value)| !value.eq_ignore_ascii_case(b"false") && value != b"0")
}

/// Checks that the grant in a denial is a valid line of a manifest and allows only this request.
fn granted(parsed: &Parsed) {
    let Some(info) = &parsed.info else { return };
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let line = grant::suggested_grant(info);
    let Ok(Grants { kubernetes, .. }) = toml::from_str(&line) else {
        let parts: Vec<_> = info.resource.split('/').collect();
        let is_resource = parts.len() <= 2 && parts.into_iter().all(is_name);
        let is_ascii = info.group.is_ascii() && info.namespace.iter().all(|name| name.is_ascii());
        assert!(!(is_resource && is_ascii), "not a line of a manifest: {line}");
        return;
    };
    let [rule]: &[Rule; 1] = kubernetes.as_slice().try_into().expect("one rule");
    assert!(rule.allows(info), "{line}");
    assert_eq!(rule.intersection(rule).as_ref(), Some(rule));
    let mut other = info.clone();
    other.resource.push('x');
    assert!(!rule.allows(&other), "{line}");
    if info.namespace.is_some() {
        other = RequestInfo { namespace: None, ..info.clone() };
        assert!(!rule.allows(&other), "{line}");
    }
}

/// Checks that each spelling of a service's host gives the same service name.
fn services(uri: &Uri) {
    let Some(service) = ServiceName::from_uri(uri) else { return };
    let host = uri.host().expect("a host").to_ascii_lowercase();
    assert!(host.starts_with(&service.host()), "{uri}");
    let plain: Uri = format!("http://{service}:8265/").parse().expect("a URI");
    assert_eq!(ServiceName::from_uri(&plain), Some(service));
}
