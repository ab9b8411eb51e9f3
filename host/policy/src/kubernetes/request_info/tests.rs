//! Cases of Kubernetes' own test (`requestinfo_test.go`), rejected requests, and properties.

use proptest::prelude::*;

use super::*;

fn read(method: &str, uri: &str) -> Result<Parsed, Malformed> {
    parse(&method.parse().unwrap(), &uri.parse().unwrap())
}

fn shown(method: &str, uri: &str) -> String {
    match read(method, uri) {
        Ok(Parsed { info: None, target }) => format!("free {target}"),
        Ok(Parsed { info: Some(info), .. }) => format!(
            "{} {:?} {} {} ns={} name={}",
            info.verb,
            info.group,
            info.version,
            info.resource,
            info.namespace.as_deref().unwrap_or("-"),
            info.name.as_deref().unwrap_or("-"),
        ),
        Err(error) => error.to_string(),
    }
}

#[test]
fn requests_are_parsed_like_the_api_server() {
    for (method, uri, expected) in [
        ("GET", "/api/v1/namespaces", "list \"\" v1 namespaces ns=- name=-"),
        ("GET", "/api/v1/namespaces/other", "get \"\" v1 namespaces ns=other name=other"),
        ("GET", "/api/v1/namespaces/other/pods", "list \"\" v1 pods ns=other name=-"),
        ("GET", "/api/v1/namespaces/other/pods/foo", "get \"\" v1 pods ns=other name=foo"),
        ("HEAD", "/api/v1/namespaces/other/pods/foo", "get \"\" v1 pods ns=other name=foo"),
        ("GET", "/api/v1/pods", "list \"\" v1 pods ns=- name=-"),
        ("HEAD", "/api/v1/pods", "list \"\" v1 pods ns=- name=-"),
        ("GET", "/api/v1/namespaces/other/pods/foo/log", "get \"\" v1 pods/log ns=other name=foo"),
        ("PUT", "/api/v1/namespaces/ns/finalize", "update \"\" v1 namespaces/finalize ns=ns name=ns"),
        ("PUT", "/api/v1/namespaces/ns/status", "update \"\" v1 namespaces/status ns=ns name=ns"),
        ("DELETE", "/api/v1/namespaces/other/pods", "deletecollection \"\" v1 pods ns=other name=-"),
        ("DELETE", "/api/v1/namespaces/other/pods/foo", "delete \"\" v1 pods ns=other name=foo"),
        ("POST", "/api/v1/namespaces/other/pods", "create \"\" v1 pods ns=other name=-"),
        ("PATCH", "/apis/ray.io/v1/namespaces/n/rayjobs/j", "patch \"ray.io\" v1 rayjobs ns=n name=j"),
        ("GET", "/apis/ray.io/v1/rayclusters?watch=true", "watch \"ray.io\" v1 rayclusters ns=- name=-"),
        (
            "GET",
            "/apis/ray.io/v1/namespaces/n/rayclusters?watch=1",
            "watch \"ray.io\" v1 rayclusters ns=n name=-",
        ),
        ("GET", "/api/v1/pods?watch", "watch \"\" v1 pods ns=- name=-"),
        ("GET", "/api/v1/pods?watch=", "watch \"\" v1 pods ns=- name=-"),
        ("GET", "/api/v1/pods?watch=no", "watch \"\" v1 pods ns=- name=-"),
        ("GET", "/api/v1/pods?w%61tch=yes", "watch \"\" v1 pods ns=- name=-"),
        ("GET", "/api/v1/pods?watch=0&watch=1", "list \"\" v1 pods ns=- name=-"),
        ("GET", "/api/v1/pods?watch=FALSE", "list \"\" v1 pods ns=- name=-"),
        ("GET", "/api/v1/pods?limit=5&labelSelector=a%3Db", "list \"\" v1 pods ns=- name=-"),
        // The API server treats a watch of one object as a get.
        ("GET", "/api/v1/namespaces/n/pods/p?watch=1", "get \"\" v1 pods ns=n name=p"),
        (
            "GET",
            "/api/v1/namespaces/n/services/x:8265/proxy/api",
            "get \"\" v1 services/proxy ns=n name=x:8265",
        ),
        // The virtual authority is ignored.
        ("GET", "http://kubernetes.internal/api/v1/pods/x", "get \"\" v1 pods ns=- name=x"),
        ("GET", "/%61pi/v1/p%6Fds", "list \"\" v1 pods ns=- name=-"),
        ("GET", "/version", "free /version"),
    ] {
        assert_eq!(shown(method, uri), expected, "{method} {uri}");
    }
}

#[test]
fn ambiguous_requests_are_rejected() {
    for (method, uri, expected) in [
        ("GET", "/api/v1/namespaces/ray/../secrets", "dot segment"),
        ("GET", "/api/v1/namespaces/ray/%2e%2E/secrets", "dot segment"),
        ("GET", "/api/v1/./pods", "dot segment"),
        ("GET", "//api/v1/pods", "empty segment"),
        ("GET", "/api/v1//pods", "empty segment"),
        ("GET", "/api/v1/pods/", "empty segment"),
        ("GET", "/api/v1/namespaces/ray%2Fpods", "encoded slash"),
        ("GET", "/api/v1/namespaces/ray%252Fpods", "percent sign"),
        ("GET", "/api/v1/namespaces/ray%zz/pods", "percent sign"),
        ("GET", "/api/v1/namespaces/ray%00/pods", "control character"),
        ("GET", "/api/v1/namespaces/ray%5Cpods", "backslash"),
        ("GET", "/api/v1/namespaces/%ff/pods", "UTF-8"),
        ("GET", "/api/v1/watch/pods", "deprecated"),
        ("GET", "/apis/ray.io/v1/watch/namespaces/n/rayclusters", "deprecated"),
        ("GET", "/api/v1/proxy/namespaces/n/pods/x", "deprecated"),
        ("GET", "/api/v1/pods?watch=%", "is not an escape"),
        ("GET", "/api/v1/pods?a=1;watch=1", "semicolon"),
        ("OPTIONS", "/api/v1/pods", "no verb for OPTIONS"),
        ("CONNECT", "/api/v1/pods", "no verb for CONNECT"),
        ("GET", "/", "empty segment"),
        ("GET", "/api", "names no resource"),
        ("GET", "/api/v1", "names no resource"),
        ("GET", "/apis/ray.io/v1", "names no resource"),
        ("GET", "/openapi/v3", "names no resource"),
        ("GET", "/metrics", "names no resource"),
        ("GET", "/logs/kube-apiserver.log", "names no resource"),
        ("POST", "/version", "names no resource"),
    ] {
        let text = shown(method, uri);
        assert!(text.contains(expected), "{method} {uri}: {text}");
    }
}

/// Parses a path like the API server: decoded, split at slashes, without empty ends.
fn parse_like_the_api_server(
    method: &str,
    sent: &PathAndQuery,
) -> Option<(String, String, Option<String>, Option<String>)> {
    let decoded = percent_decode_str(sent.path()).decode_utf8().ok()?.into_owned();
    let mut parts: Vec<&str> = decoded.trim_matches('/').split('/').collect();
    let group = match parts.remove(0) {
        "api" => String::new(),
        "apis" => parts.remove(0).to_owned(),
        _ => return None,
    };
    parts.remove(0);
    let mut namespace = None;
    if parts[0] == "namespaces" && parts.len() > 1 {
        namespace = Some(parts[1].to_owned());
        if parts.len() > 2 && !["status", "finalize"].contains(&parts[2]) {
            parts.drain(..2);
        }
    }
    let name = parts.get(1).map(|&name| name.to_owned());
    let resource = parts.get(2).map_or_else(|| parts[0].to_owned(), |sub| format!("{}/{sub}", parts[0]));
    let _ = method;
    Some((group, resource, namespace, name))
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("api".to_owned()),
        Just("apis".to_owned()),
        Just("namespaces".to_owned()),
        Just("status".to_owned()),
        Just("watch".to_owned()),
        Just("..".to_owned()),
        Just("%2e%2e".to_owned()),
        Just("a%2fb".to_owned()),
        Just(String::new()),
        "[a-z:.]{1,8}",
        "[ -~&&[^/?#%]]{1,6}".prop_map(|text| utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string()),
    ]
}

proptest! {
    #[test]
    fn no_uri_panics(text in "/[ -~]{0,60}", method in "[A-Z]{1,8}") {
        if let Ok(uri) = text.parse::<Uri>() {
            let _ = parse(&method.parse().unwrap(), &uri);
        }
    }

    #[test]
    fn the_api_server_sees_the_authorized_request(pieces in prop::collection::vec(piece(), 1..9)) {
        let text = format!("/{}", pieces.join("/"));
        if let Ok(uri) = text.parse::<Uri>()
            && let Ok(Parsed { info: Some(info), target }) = parse(&Method::GET, &uri)
        {
            let server = parse_like_the_api_server("GET", &target);
            prop_assert_eq!(server, Some((info.group.clone(), info.resource.clone(), info.namespace.clone(), info.name.clone())));
            // Parsing the rebuilt path again gives the same result.
            let again: Uri = target.as_str().parse().unwrap();
            prop_assert_eq!(parse(&Method::GET, &again), Ok(Parsed { info: Some(info), target }));
        }
    }
}
