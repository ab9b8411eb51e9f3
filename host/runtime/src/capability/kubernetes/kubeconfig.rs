//! Finds the access to a Kubernetes cluster in `kubectl`'s order: the configured file, the files of
//! `KUBECONFIG`, `~/.kube/config`, the pod's service account.

use std::path::PathBuf;

use hyper_util::client::proxy::matcher::Matcher;
use kube::Config;
use kube::config::{Cluster, ExecInteractiveMode, KubeConfigOptions, Kubeconfig, KubeconfigError};
use serde::Deserialize;

use super::failure::{Failure, invalid_yaml};
use super::location::ClusterLocation;

/// Selects a Kubernetes cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KubernetesOptions {
    /// The kubeconfig file. The default is `KUBECONFIG`, `~/.kube/config` or the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig. The default is its current context.
    pub context: Option<String>,
}

impl KubernetesOptions {
    /// Returns whether this process runs in a pod of the cluster, so that the names of Services can be resolved.
    ///
    /// A kubeconfig that cannot be read is not an error here: its first use reports it.
    pub fn is_inside(&self) -> bool {
        let kubeconfig = match source(self) {
            Ok(Source::Pod) => return true,
            Ok(Source::File(path)) => Kubeconfig::read_from(path).ok(),
            Ok(Source::Merged(_)) => Kubeconfig::from_env().ok().flatten(),
            Err(_) => None,
        };
        let server = kubeconfig.and_then(|kubeconfig| {
            let context = self.context.as_ref().or(kubeconfig.current_context.as_ref())?;
            cluster_of(&kubeconfig, context)?.server.clone()
        });
        server.is_some_and(|server| is_own_server(&server))
    }
}

/// Returns whether a URL is that of the API server of the cluster in which this process is a pod.
pub(super) fn is_own_server(server: &str) -> bool {
    let own = |name: &str| std::env::var(name).ok();
    is_server(server, own("KUBERNETES_SERVICE_HOST").as_deref(), own("KUBERNETES_SERVICE_PORT").as_deref())
}

/// Compares a URL with the Service `kubernetes` of a pod's variables.
fn is_server(server: &str, host: Option<&str>, port: Option<&str>) -> bool {
    let (Some(own), Ok(server)) = (host, server.parse::<http::Uri>()) else { return false };
    let named = server.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_service = named.split('.').take(3).eq(["kubernetes", "default", "svc"]);
    let port = port.and_then(|port| port.parse().ok()).unwrap_or(443);
    is_service || (named == own.trim_matches(['[', ']']) && server.port_u16().unwrap_or(443) == port)
}

/// An HTTP proxy for an API server.
pub(super) struct Proxy {
    pub(super) uri: http::Uri,
    pub(super) authorization: Option<http::HeaderValue>,
}

/// The access to a cluster.
pub(super) struct Found {
    pub(super) config: Config,
    pub(super) proxy: Option<Proxy>,
    pub(super) location: ClusterLocation,
}

enum Source {
    File(PathBuf),
    Merged(String),
    Pod,
}

/// Reads the kubeconfig. `context` is the default context: a process keeps using the same cluster even
/// if the file's current context changes.
pub(super) async fn find(options: &KubernetesOptions, context: Option<&str>) -> Result<Found, Failure> {
    let (file, kubeconfig) = match source(options)? {
        Source::Pod => return in_pod(),
        Source::File(path) => (path.display().to_string(), Kubeconfig::read_from(&path)),
        Source::Merged(files) => (files, Kubeconfig::from_env().map(Option::unwrap_or_default)),
    };
    let unusable = |problem: String| Failure::Kubeconfig { file: file.clone(), problem };
    let mut kubeconfig = kubeconfig.map_err(|error| unusable(problem(&error)))?;
    let known: Vec<_> = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
    let context = options.context.as_deref().or(context).or(kubeconfig.current_context.as_deref());
    let Some(context) = context.filter(|name| known.iter().any(|known| known == name)).map(str::to_owned)
    else {
        let context = context.map(str::to_owned).filter(|name| !name.is_empty());
        return Err(Failure::Context { file, context, known });
    };
    for user in &mut kubeconfig.auth_infos {
        if let Some(exec) = user.auth_info.as_mut().and_then(|user| user.exec.as_mut())
            && exec.interactive_mode != Some(ExecInteractiveMode::Always)
        {
            // This process has no terminal on which a plugin could ask.
            exec.interactive_mode = Some(ExecInteractiveMode::Never);
        }
    }
    let own_proxy = own_proxy(&kubeconfig, &context);
    let chosen = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &chosen)
        .await
        .map_err(|error| unusable(format!("context {context}: {error}")))?;
    let proxy = proxy(own_proxy, &config.cluster_url);
    let server = config.cluster_url.to_string();
    Ok(Found { config, proxy, location: ClusterLocation { server, from: Some((file, context)) } })
}

/// Explains why a kubeconfig cannot be read.
fn problem(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(error) => invalid_yaml(error.location().map(|at| (at.line(), at.column()))),
        other => other.to_string(),
    }
}

fn source(options: &KubernetesOptions) -> Result<Source, Failure> {
    if let Some(path) = &options.kubeconfig {
        return Ok(Source::File(path.clone()));
    }
    let mut looked = Vec::new();
    match std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()) {
        Some(files) => {
            // Like kubectl, ignore missing files of the list.
            if std::env::split_paths(&files).any(|path| path.exists()) {
                return Ok(Source::Merged(files.to_string_lossy().into_owned()));
            }
            looked.push(format!("KUBECONFIG={}", files.to_string_lossy()));
        }
        None => {
            if let Some(home) = std::env::home_dir() {
                let path = home.join(".kube").join("config");
                if path.exists() {
                    return Ok(Source::File(path));
                }
                looked.push(path.display().to_string());
            }
        }
    }
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        return Ok(Source::Pod);
    }
    Err(Failure::NoKubeconfig { looked: looked.join(", ") })
}

fn in_pod() -> Result<Found, Failure> {
    let config = Config::incluster().map_err(|error| Failure::Kubeconfig {
        file: "the service account of this pod".into(),
        problem: format!("{error}. Check that automountServiceAccountToken is not false"),
    })?;
    let location = ClusterLocation { server: config.cluster_url.to_string(), from: None };
    Ok(Found { config, proxy: None, location })
}

/// Returns the cluster of a context.
fn cluster_of<'a>(kubeconfig: &'a Kubeconfig, context: &str) -> Option<&'a Cluster> {
    let named = kubeconfig.contexts.iter().find(|known| known.name == context)?;
    let cluster = &named.context.as_ref()?.cluster;
    kubeconfig.clusters.iter().find(|known| known.name == *cluster)?.cluster.as_ref()
}

/// Returns the `proxy-url` of the context's cluster.
fn own_proxy(kubeconfig: &Kubeconfig, context: &str) -> Option<String> {
    cluster_of(kubeconfig, context)?.proxy_url.clone().filter(|url| !url.is_empty())
}

/// Returns the proxy for a server: the cluster's `proxy-url`, or the environment's proxy.
///
/// kube-rs is not used because it compares `NO_PROXY` with the proxy instead of the server. Like Go's
/// clients, servers on this machine do not use the environment's proxy.
fn proxy(own: Option<String>, server: &http::Uri) -> Option<Proxy> {
    let matcher = match own {
        Some(url) => Matcher::builder().all(url).build(),
        None if is_here(server) => return None,
        None => Matcher::from_env(),
    };
    let found = matcher.intercept(server)?;
    Some(Proxy { uri: found.uri().clone(), authorization: found.basic_auth().cloned() })
}

fn is_here(server: &http::Uri) -> bool {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_own_api_server_is_recognized_and_another_one_is_not() {
        let is_own = |server| is_server(server, Some("10.43.0.1"), Some("443"));
        assert!(is_own("https://10.43.0.1") && is_own("https://10.43.0.1:443/"));
        assert!(
            is_own("https://kubernetes.default.svc")
                && is_own("https://kubernetes.default.svc.cluster.local")
        );
        assert!(!is_own("https://10.43.0.1:6443") && !is_own("https://10.43.0.2"));
        assert!(!is_own("https://kubernetes.example.org"));
        assert!(!is_server("https://10.43.0.1", None, None), "this process is no pod");
        assert!(is_server("https://[fd00::1]:443", Some("fd00::1"), Some("443")));
    }

    #[test]
    fn the_clusters_proxy_applies_to_loopback_and_has_its_own_credentials() {
        let server = "https://127.0.0.1:6443".parse().unwrap();
        assert!(proxy(None, &server).is_none());
        let found = proxy(Some("http://user:secret@proxy.example:3128".into()), &server).unwrap();
        assert_eq!(found.uri.host(), Some("proxy.example"));
        assert_eq!(found.authorization.unwrap(), "Basic dXNlcjpzZWNyZXQ=");
    }
}
