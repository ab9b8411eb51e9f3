//! DNS names of Kubernetes Services.

use std::fmt;

use http::Uri;
use http::uri::Scheme;

/// A Kubernetes Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceName {
    /// The Service's name.
    pub name: String,
    /// The Service's namespace.
    pub namespace: String,
}

impl ServiceName {
    /// Returns a Service, or none unless both names are DNS labels (RFC 1123).
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

    /// Returns the Service that a request addresses: `http://<service>.<namespace>.svc`, optionally
    /// followed by `.cluster.local`.
    pub fn from_uri(uri: &Uri) -> Option<Self> {
        if uri.scheme() != Some(&Scheme::HTTP) {
            return None;
        }
        let host = uri.host()?.to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let host = host.strip_suffix(".cluster.local").unwrap_or(host);
        let (name, namespace) = host.strip_suffix(".svc")?.split_once('.')?;
        Self::new(name, namespace)
    }

    /// Returns the Service's name in the cluster's DNS, without the cluster domain.
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
    fn only_http_uris_of_services_are_recognized() {
        let name = |uri: &str| ServiceName::from_uri(&uri.parse().unwrap()).map(|name| name.to_string());
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
