//! Services of the cluster, by their names.

use std::fmt;

use http::Uri;
use http::uri::Scheme;

/// A service of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceName {
    /// Its name.
    pub name: String,
    /// Its name.
    pub namespace: String,
}

impl ServiceName {
    /// A service by its name, checked as a label of DNS (RFC 1123).
    pub fn new(name: &str, namespace: &str) -> Option<Self> {
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
    pub fn of(uri: &Uri) -> Option<Self> {
        if uri.scheme() != Some(&Scheme::HTTP) {
            return None;
        }
        let host = uri.host()?.to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let host = host.strip_suffix(".cluster.local").unwrap_or(host);
        let (name, namespace) = host.strip_suffix(".svc")?.split_once('.')?;
        Self::new(name, namespace)
    }

    /// The name that the cluster's DNS knows it by.
    pub fn host(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host())
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
