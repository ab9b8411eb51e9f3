//! Creates one cluster per owner, however often the call is repeated.

use dagster_ray_sdk::{
    Error,
    bindings::cluster::{ClusterRef, ClusterSpec, Creation},
    clock::Clock,
    http::Http,
};
use serde_json::Value;

use super::{Clusters, Details, plan::Plan, service::Services};
use crate::{
    annotations, job,
    kubernetes::{CreateOutcome, RAY_CLUSTER, RAY_JOB, object},
    labels,
    manifest::{Template, complete_cluster, object_name},
    names,
    options::{self, ClusterOptions},
    reconcile::{self, NewAttempt},
};

/// How long the deletion of an earlier cluster with the same name may take, in seconds.
const DELETION_TIMEOUT_S: u64 = 120;

impl<H: Http, C: Clock> Clusters<H, C> {
    /// Creates a cluster, or joins an existing one if sharing is requested.
    pub fn create(&self, spec: &ClusterSpec) -> Result<Creation, Error> {
        let options = options::read_document(&spec.options, ClusterOptions::read)?;
        if let Some(manifest) = options.ray_service.clone() {
            return Services::new(self).deploy(spec, &options, manifest);
        }
        let sharing = options.sharing.clone();
        let plan = self.plan(spec, options)?;
        self.remove_earlier(&plan)?;
        match sharing {
            Some(sharing) => self.share(plan, &sharing),
            None => self.create_dedicated(&plan).map(Creation::Created),
        }
    }

    /// Deletes the clusters that earlier attempts of the owner's step left. Their worker may have been killed.
    fn remove_earlier(&self, plan: &Plan) -> Result<(), Error> {
        let labels = object::labels(&plan.document);
        let attempt = labels.get(labels::ATTEMPT).and_then(|attempt| attempt.parse().ok());
        let (Some(step_key), Some(attempt @ 1..)) = (plan.owner.step_key.as_deref(), attempt) else {
            return Ok(());
        };
        let new = NewAttempt {
            deployment: &plan.owner.deployment,
            run_id: &plan.owner.run_id,
            step_key,
            attempt,
            is_relaunch: false,
        };
        reconcile::remove_earlier(self, plan.kind, &plan.namespace, &new)
    }

    fn create_dedicated(&self, plan: &Plan) -> Result<ClusterRef, Error> {
        let wait = self.begin_pause(DELETION_TIMEOUT_S);
        loop {
            let existing = match self.kubernetes.create(plan.kind, &plan.namespace, &plan.document)? {
                CreateOutcome::Created(made) => return Ok(Self::reference(plan.kind, &made, &plan.details)),
                CreateOutcome::Exists(existing) => existing,
            };
            if !annotations::is_owned_by(&existing, &plan.owner) {
                return Err(Error::Conflict(format!("{} exists and belongs to another owner", plan.label())));
            }
            if !object::is_deleting(&existing) {
                return Ok(Self::reference(plan.kind, &existing, &plan.details));
            }
            self.pause(&wait, plan, "is being deleted")?;
        }
    }

    /// Returns the manifest of a cluster, without a request.
    pub(crate) fn plan(&self, spec: &ClusterSpec, options: ClusterOptions) -> Result<Plan, Error> {
        let (kind, path, manifest) = match (options.ray_cluster, options.ray_job) {
            (Some(_), Some(_)) => {
                let hint = Some("keep `ray_cluster` for a cluster, or `ray_job` for an interactive job");
                return Err(Error::invalid("ray_job", "is set together with `ray_cluster`", hint));
            }
            (None, Some(job)) => (RAY_JOB, "ray_job", Some(job)),
            (cluster, None) => (RAY_CLUSTER, "ray_cluster", cluster),
        };
        let mut template = Template::read(manifest.map(Value::Object), kind, path)?;
        let namespace =
            template.namespace().or(options.namespace.as_deref()).unwrap_or(&self.namespace).to_owned();

        if kind == RAY_JOB {
            job::manifest::interactive(&mut template.spec, path, spec.image.as_deref(), &spec.env)?;
        } else {
            let path = format!("{path}.spec");
            complete_cluster(&mut template.spec, &path, spec.image.as_deref(), &spec.env)?;
        }

        let mut labels = labels::normalized(&spec.labels);
        let match_labels = options
            .sharing
            .as_ref()
            .map(|sharing| labels::shared(&sharing.match_labels, &spec.owner.deployment));
        let default_name = || match &match_labels {
            Some(shared) => names::shared_cluster(shared),
            None => {
                let label = |key: &str| labels.get(key).map(String::as_str);
                let user =
                    spec.labels.iter().find(|(key, _)| key == labels::USER).map(|(_, user)| user.as_str());
                names::dedicated_cluster(&spec.owner, label(labels::DEPLOYMENT), user)
            }
        };
        let max_length = if kind == RAY_JOB { names::MAX_JOB_NAME } else { names::MAX_CLUSTER_NAME };
        let path = format!("{path}.metadata.name");
        let name = object_name(spec.name.as_deref(), &template, default_name, max_length, &path)?;

        if !spec.owner.run_id.is_empty() {
            labels.insert(labels::RUN_ID.to_owned(), labels::value(&spec.owner.run_id));
        }
        labels.entry(labels::ROLE.to_owned()).or_insert_with(|| labels::ROLE_CLUSTER.to_owned());
        if let Some(key) = &spec.owner.resource_key {
            labels.entry(labels::RESOURCE_KEY.to_owned()).or_insert_with(|| labels::value(key));
        }
        labels.extend(match_labels.unwrap_or_default());
        labels::set_deployment(&mut labels, &spec.owner.deployment);
        let details = Details {
            kind: kind.kind.to_owned(),
            // The cast drops fractions of a millisecond.
            failure_tolerance_ms: (options.failure_tolerance_seconds.max(0.0) * 1_000.0) as u64,
            lease_ttl_s: options.sharing.as_ref().map(|sharing| sharing.ttl_seconds),
            lease_renew_s: options.sharing.as_ref().and_then(|sharing| sharing.renew_seconds),
            only_if_unused: false,
            deployment: None,
        };
        let delete = options.sharing.as_ref().is_none_or(|sharing| sharing.delete_when_released);
        let annotations = annotations::for_owner(&spec.owner, options.ttl_seconds, delete);
        let document = template.document(kind, &namespace, &name, labels, annotations);
        Ok(Plan { kind, namespace, document, owner: spec.owner.clone(), details })
    }
}
