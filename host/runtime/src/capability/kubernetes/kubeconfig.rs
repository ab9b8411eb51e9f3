//! Where the access to a cluster comes from, in `kubectl`'s order: the file that the configuration
//! names, the files of `KUBECONFIG`, `~/.kube/config`, the service account of the pod.

use std::fmt;
use std::path::PathBuf;

use hyper_util::client::proxy::matcher::Matcher;
use kube::Config;
use kube::config::{ExecInteractiveMode, KubeConfigOptions, Kubeconfig};
use serde::Deserialize;

use super::failure::Failure;

/// Which cluster the configuration means.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KubernetesOptions {
    /// The kubeconfig file. Without it, `KUBECONFIG`, `~/.kube/config`, the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// A context of it. Without it, the current one.
    pub context: Option<String>,
}

/// A cluster as messages name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub(crate) server: String,
    /// The kubeconfig and its context; none for the service account of a pod.
    pub(crate) from: Option<(String, String)>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            Some((file, context)) => write!(f, "{} (context {context} of {file})", self.server),
            None => write!(f, "{} (the service account of this pod)", self.server),
        }
    }
}

/// A proxy on the way to an API server.
pub(super) struct Proxy {
    pub(super) uri: http::Uri,
    pub(super) authorization: Option<http::HeaderValue>,
}

/// A way into a cluster.
pub(super) struct Found {
    pub(super) config: Config,
    pub(super) proxy: Option<Proxy>,
    pub(super) place: Place,
}

enum Source {
    File(PathBuf),
    Merged(String),
    Pod,
}

/// Reads the files. `context` is the one to use where the options leave it open: a process keeps
/// to one cluster, even if somebody changes the current context of the file.
pub(super) async fn find(options: &KubernetesOptions, context: Option<&str>) -> Result<Found, Failure> {
    let (file, kubeconfig) = match source(options)? {
        Source::Pod => return in_pod(),
        Source::File(path) => (path.display().to_string(), Kubeconfig::read_from(&path)),
        Source::Merged(files) => (files, Kubeconfig::from_env().map(Option::unwrap_or_default)),
    };
    let unusable = |problem: String| Failure::Kubeconfig { file: file.clone(), problem };
    let mut kubeconfig = kubeconfig.map_err(|error| unusable(error.to_string()))?;
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
            // Nobody sits before this process. What the plugin says belongs into the error instead.
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
    Ok(Found { config, proxy, place: Place { server, from: Some((file, context)) } })
}

fn source(options: &KubernetesOptions) -> Result<Source, Failure> {
    if let Some(path) = &options.kubeconfig {
        return Ok(Source::File(path.clone()));
    }
    let mut looked = Vec::new();
    match std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()) {
        Some(files) => {
            // As kubectl does: files of the list that are not there are passed over.
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
        problem: format!("{error}; is automountServiceAccountToken off?"),
    })?;
    let place = Place { server: config.cluster_url.to_string(), from: None };
    Ok(Found { config, proxy: None, place })
}

/// The `proxy-url` of the context's cluster.
fn own_proxy(kubeconfig: &Kubeconfig, context: &str) -> Option<String> {
    let named = kubeconfig.contexts.iter().find(|known| known.name == context)?;
    let cluster = &named.context.as_ref()?.cluster;
    let known = kubeconfig.clusters.iter().find(|known| known.name == *cluster)?;
    known.cluster.as_ref()?.proxy_url.clone().filter(|url| !url.is_empty())
}

/// The proxy to a server: the cluster's own, or the environment's. kube-rs compares `NO_PROXY` with
/// the proxy instead of the server, and Go's clients take no proxy of the environment to this
/// machine.
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
    fn a_proxy_of_the_cluster_is_its_own_and_has_its_own_credentials() {
        let server = "https://127.0.0.1:6443".parse().unwrap();
        assert!(proxy(None, &server).is_none());
        let found = proxy(Some("http://user:secret@proxy.example:3128".into()), &server).unwrap();
        assert_eq!(found.uri.host(), Some("proxy.example"));
        assert_eq!(found.authorization.unwrap(), "Basic dXNlcjpzZWNyZXQ=");
    }
}
