//! The options for a component's connection and permissions, as in Dagster's configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use dagster_ray_registry::ComponentFile;
use dagster_ray_runtime::capability::kubernetes::KubernetesOptions;
use dagster_ray_runtime::manifest::Restriction;
use dagster_ray_runtime::{Authority, AuthorityOptions, Backend, BackendOptions};

use crate::context::Context;
use crate::exit::Usage;

/// The options of every command that calls a component.
#[derive(clap::Args)]
#[command(next_help_heading = "Connection and permissions")]
pub(crate) struct Connection {
    /// The URL of the Ray dashboard, for the grant `address`, such as http://ray-head:8265
    #[arg(long, value_name = "URL")]
    address: Option<String>,
    /// A header that the host adds to requests to the address; the component cannot read it
    #[arg(long = "header", value_name = "NAME=VALUE", requires = "address", value_parser = pair)]
    headers: Vec<(String, String)>,
    /// A cookie that the host adds to requests to the address
    #[arg(long = "cookie", value_name = "NAME=VALUE", requires = "address", value_parser = pair)]
    cookies: Vec<(String, String)>,
    /// The PEM file of trusted certificates for the address, or `false` to verify none
    #[arg(long, value_name = "FILE", requires = "address")]
    verify: Option<String>,
    /// A setting of the component (`dagster-ray call … describe.describe` lists the settings)
    #[arg(long = "setting", value_name = "NAME=VALUE", value_parser = pair)]
    settings: Vec<(String, String)>,
    /// The kubeconfig file. Default: KUBECONFIG, ~/.kube/config, the pod's service account
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig. Default: its current context
    #[arg(long = "kube-context", value_name = "NAME")]
    kube_context: Option<String>,
    /// The file of a program that the manifest grants; `python` and `ray` have defaults
    #[arg(long = "program", value_name = "NAME=FILE", value_parser = pair)]
    programs: Vec<(String, String)>,
    /// A directory or file that the component may upload
    #[arg(long = "directory", value_name = "PATH")]
    directories: Vec<PathBuf>,
    /// A TOML file with [grants] and [limits] that restrict the component's manifest
    #[arg(long, value_name = "FILE")]
    restrict: Option<PathBuf>,
}

impl Connection {
    /// Returns the component with these options.
    ///
    /// # Errors
    /// If an option is invalid, or the engine cannot be started.
    pub(crate) fn backend(&self, context: &mut Context, file: ComponentFile) -> anyhow::Result<Backend> {
        let options = self.options(context, file)?;
        Ok(Backend::new(context.host()?, options))
    }

    /// Whether an option names a service that the component uses.
    pub(crate) fn names_a_service(&self) -> bool {
        self.address.is_some() || self.kubeconfig.is_some() || self.kube_context.is_some()
    }

    /// Returns the options of the component, without a host.
    ///
    /// # Errors
    /// If an option is invalid.
    pub(crate) fn options(&self, context: &Context, file: ComponentFile) -> anyhow::Result<BackendOptions> {
        let mut settings: BTreeMap<_, _> = self.settings.iter().cloned().collect();
        let mut authorities = Vec::new();
        if let Some(address) = &self.address {
            authorities.push(self.authority(address)?);
            settings.entry("address".to_owned()).or_insert_with(|| address.clone());
        }
        let restriction = match &self.restrict {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("--restrict {} cannot be read", path.display()))?;
                Restriction::parse(&text)?
            }
            None => Restriction::default(),
        };
        let mut programs = context.installation.programs.clone();
        programs.extend(self.programs.iter().map(|(name, file)| (name.clone(), vec![file.clone()])));
        Ok(BackendOptions {
            trusted_keys: context.trusted_keys()?,
            path: file.path,
            sha256: file.sha256,
            settings,
            authorities,
            restriction,
            kubernetes: KubernetesOptions {
                kubeconfig: self.kubeconfig.clone(),
                context: self.kube_context.clone(),
            },
            programs,
            directories: self.directories.clone(),
            ..BackendOptions::default()
        })
    }

    fn authority(&self, address: &str) -> anyhow::Result<Authority> {
        let document = serde_json::json!({
            "url": address,
            "headers": self.headers.iter().cloned().collect::<BTreeMap<_, _>>(),
            "cookies": self.cookies.iter().cloned().collect::<BTreeMap<_, _>>(),
            "ray_token": true,
            "verify": match self.verify.as_deref() {
                None | Some("true") => serde_json::Value::Bool(true),
                Some("false") => serde_json::Value::Bool(false),
                Some(file) => file.into(),
            },
        });
        let options: AuthorityOptions = serde_json::from_value(document)?;
        Ok(Authority::new(options).map_err(|error| Usage(error.to_string()))?)
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}
