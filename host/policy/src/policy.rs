//! The effective permissions of a loaded component: the manifest's grants, applied to the authorities,
//! directories and programs of the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::Uri;

use crate::authority::{Authority, Origin};
use crate::capability::cluster_services::ServiceRule;
use crate::capability::http::ADDRESS;
use crate::capability::processes::ProgramGrant;
use crate::kubernetes::{Rule, ServiceName};
use crate::manifest::Grants;

/// The effective permissions of a component.
#[derive(Debug, Clone)]
pub struct Policy {
    authorities: Vec<Authority>,
    /// The credentials for Services of the Kubernetes cluster that no authority names.
    pub service_credentials: Option<Authority>,
    /// Rules for requests to the Kubernetes API.
    pub kubernetes: Vec<Rule>,
    /// Rules for Services of the Kubernetes cluster.
    pub cluster_services: Vec<ServiceRule>,
    /// Directories and files that the component may read, as canonical paths.
    pub directories: Vec<PathBuf>,
    /// Programs that the component may run, by their names in the grant.
    pub programs: BTreeMap<String, Program>,
}

/// A program that a component may run.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program file and the leading arguments. Empty if the configuration does not name a command.
    pub command: Vec<String>,
    /// The arguments and environment variables that the component may give it.
    pub grant: ProgramGrant,
}

impl Policy {
    /// Applies the grants to the authorities, directories and programs of the configuration.
    pub fn new(
        grants: &Grants,
        named: &[Authority],
        directories: &[PathBuf],
        programs: &BTreeMap<String, Vec<String>>,
    ) -> Self {
        let (services, named): (Vec<_>, Vec<_>) =
            named.iter().cloned().partition(|authority| authority.origin.is_every_service());
        let mut authorities = Vec::new();
        for entry in &grants.http {
            if entry == ADDRESS {
                authorities.extend(named.iter().cloned());
            } else if let Some(authority) = Authority::from_manifest_entry(entry) {
                // If the configuration names the same authority, use its credentials.
                let configured = named.iter().find(|known| known.origin == authority.origin).cloned();
                authorities.push(configured.unwrap_or(authority));
            }
        }
        for authority in &mut authorities {
            authority.allowed_networks = authority.allowed_networks.clone().with(&grants.networks);
        }
        let programs = grants
            .processes
            .iter()
            .map(|(name, grant)| {
                let command = programs.get(name).cloned().unwrap_or_default();
                (name.clone(), Program { command, grant: grant.clone() })
            })
            .collect();
        let directories = if grants.packages {
            directories.iter().filter_map(|path| path.canonicalize().ok()).collect()
        } else {
            Vec::new()
        };
        Self {
            authorities,
            service_credentials: services.into_iter().next(),
            kubernetes: grants.kubernetes.clone(),
            cluster_services: grants.cluster_services.clone(),
            directories,
            programs,
        }
    }

    /// Returns the authority that a request is sent to, if it is granted.
    pub fn authority(&self, uri: &Uri) -> Option<&Authority> {
        let origin = Origin::from_uri(uri)?;
        self.authorities.iter().find(|authority| authority.origin == origin)
    }

    /// Returns whether the grants allow a port of a Service.
    pub fn allows_service(&self, service: &ServiceName, port: u16) -> bool {
        self.cluster_services.iter().any(|rule| rule.allows(service, port))
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
    fn authorities_match_by_scheme_host_and_port() {
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
    fn the_credentials_of_services_are_no_authority() {
        let grants = Grants { http: vec!["address".into()], ..Grants::default() };
        let named = [authority("http://svc").unwrap(), authority("https://ray.example").unwrap()];
        let policy = Policy::new(&grants, &named, &[], &BTreeMap::new());
        assert!(policy.service_credentials.is_some());
        assert!(policy.authority(&"http://svc/".parse().unwrap()).is_none());
        assert!(policy.authority(&"http://head.ray.svc:8265/".parse().unwrap()).is_none());
        assert!(policy.authority(&"https://ray.example/api".parse().unwrap()).is_some());
    }

    #[test]
    fn an_unsupported_scheme_is_an_error_with_the_expected_form() {
        let text = authority("ray://head:10001").unwrap_err().to_string();
        assert!(text.contains("ray") && text.contains("http://host:port"), "{text}");
        assert!(authority("head:8265").is_err());
    }
}
