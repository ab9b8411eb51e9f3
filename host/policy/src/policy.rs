//! What a loaded component may really reach: its manifest's grants, applied to the authorities,
//! directories and programs that the configuration names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::Uri;

use crate::authority::{Authority, Origin};
use crate::kubernetes::Rule;
use crate::manifest::Grants;

/// The entry of `http` that stands for all services of the cluster.
const CLUSTER_SERVICES: &str = "cluster-services";

/// What a component may reach.
#[derive(Debug, Clone)]
pub struct Policy {
    authorities: Vec<Authority>,
    /// What may be asked of the Kubernetes API.
    pub kubernetes: Vec<Rule>,
    /// Whether the services of the cluster may be reached by their names.
    pub cluster_services: bool,
    /// Directories and files that may be read, without links in their paths.
    pub directories: Vec<PathBuf>,
    /// Programs that may be run, by the names that components know.
    pub programs: BTreeMap<String, Program>,
}

/// A program that may be run.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its file and the arguments that go first; nothing where the configuration does not say.
    pub command: Vec<String>,
    /// What a component's own arguments must begin with: one of these.
    pub prefixes: Vec<Vec<String>>,
}

impl Policy {
    /// The grants, applied to what the configuration names.
    pub fn new(
        grants: &Grants,
        named: &[Authority],
        directories: &[PathBuf],
        programs: &BTreeMap<String, Vec<String>>,
    ) -> Self {
        let mut authorities = Vec::new();
        for entry in &grants.http {
            if entry == "address" {
                authorities.extend(named.iter().cloned());
            } else if let Some(authority) = Authority::named(entry) {
                // An authority that the configuration names too comes with its credentials.
                let known = named.iter().find(|known| known.origin == authority.origin).cloned();
                authorities.push(known.unwrap_or(authority));
            }
        }
        for authority in &mut authorities {
            authority.reach = authority.reach.clone().with(&grants.networks);
        }
        let programs = grants
            .processes
            .iter()
            .map(|(name, prefixes)| {
                let command = programs.get(name).cloned().unwrap_or_default();
                (name.clone(), Program { command, prefixes: prefixes.clone() })
            })
            .collect();
        let directories = if grants.packages {
            directories.iter().filter_map(|path| path.canonicalize().ok()).collect()
        } else {
            Vec::new()
        };
        Self {
            authorities,
            kubernetes: grants.kubernetes.clone(),
            cluster_services: grants.http.iter().any(|entry| entry == CLUSTER_SERVICES),
            directories,
            programs,
        }
    }

    /// The authority that a request goes to, if it may be reached.
    pub fn authority(&self, uri: &Uri) -> Option<&Authority> {
        let origin = Origin::of(uri)?;
        self.authorities.iter().find(|authority| authority.origin == origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{AuthorityOptions, PolicyError, Verify};

    fn authority(url: &str) -> Result<Authority, PolicyError> {
        Authority::new(AuthorityOptions {
            url: url.into(),
            headers: BTreeMap::new(),
            cookies: BTreeMap::new(),
            ray_token: false,
            verify: Verify::default(),
        })
    }

    #[test]
    fn an_authority_is_scheme_host_and_port() {
        let grants = Grants { http: vec!["address".into()], ..Grants::default() };
        let policy = Policy::new(
            &grants,
            &[authority("http://Head.example:8265/base").unwrap()],
            &[],
            &BTreeMap::new(),
        );
        let allowed = |uri: &str| policy.authority(&uri.parse().unwrap()).is_some();
        assert!(allowed("http://head.example:8265/api/jobs/"));
        assert!(allowed("http://HEAD.example.:8265/"));
        assert!(!allowed("https://head.example:8265/"));
        assert!(!allowed("http://head.example:8266/"));
        assert!(!allowed("http://head.example/"));
        assert!(!allowed("http://head.example.evil:8265/"));
        assert!(!allowed("http://head.example:8265@evil:8265/"));
    }

    #[test]
    fn a_wrong_scheme_says_what_to_write() {
        let text = authority("ray://head:10001").unwrap_err().to_string();
        assert!(text.contains("ray") && text.contains("http://host:port"), "{text}");
        assert!(authority("head:8265").is_err());
    }
}
