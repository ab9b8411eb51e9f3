//! Creates one cluster per owner, however often the call is repeated.

use std::collections::BTreeMap;

use dagster_ray_sdk::{Error, clock::Clock, http::Http, json};
use serde_json::{Value, json};

use super::{Clusters, Details};
use crate::{
    bindings::cluster::{ClusterRef, ClusterSpec, Creation, Owner},
    job,
    kubernetes::{Created, Kind, RAY_CLUSTER, RAY_JOB, object},
    labels,
    manifest::{Template, complete_cluster, name_of},
    names,
    options::{self, ClusterOptions},
    time::WallClock,
};

/// The annotation with the owner of a cluster.
pub const OWNER: &str = "dagster-ray/owner";
/// The annotation with the seconds after its creation at which a cluster expires once its run has ended.
pub const TTL: &str = "dagster-ray/ttl-seconds";
/// The annotation that tells whether a cluster is deleted when its last holder releases it.
pub const DELETE_WHEN_RELEASED: &str = "dagster-ray/delete-when-released";

/// How long the deletion of an earlier cluster with the same name may take.
const PATIENCE_MS: u64 = 120_000;
pub(super) const PAUSE_MS: u64 = 500;

/// A cluster before its creation.
pub(super) struct Plan {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) document: Value,
    pub(super) owner: Owner,
    pub(super) details: Details,
}

impl Plan {
    pub(super) fn label(&self) -> String {
        format!("the {} {}/{}", self.kind.kind, self.namespace, object::name(&self.document))
    }
}

impl<H: Http, C: Clock, W: WallClock> Clusters<H, C, W> {
    /// Creates a cluster, or joins an existing one if sharing is requested.
    pub fn create(&self, spec: &ClusterSpec) -> Result<Creation, Error> {
        let options = options::document(&spec.options, ClusterOptions::read)?;
        let sharing = options.sharing.clone();
        let plan = self.plan(spec, options)?;
        match sharing {
            Some(sharing) => self.share(plan, &sharing),
            None => self.make(&plan).map(Creation::Created),
        }
    }

    fn make(&self, plan: &Plan) -> Result<ClusterRef, Error> {
        let until = self.patience();
        loop {
            let existing = match self.kubernetes.create(plan.kind, &plan.namespace, &plan.document)? {
                Created::Made(made) => return Ok(Self::reference(plan.kind, &made, &plan.details)),
                Created::There(existing) => existing,
            };
            if !is_of(&existing, &plan.owner) {
                return Err(Error::Conflict(format!("{} exists and belongs to another owner", plan.label())));
            }
            if !object::is_deleting(&existing) {
                return Ok(Self::reference(plan.kind, &existing, &plan.details));
            }
            self.pause(until, plan)?;
        }
    }

    pub(super) fn patience(&self) -> u64 {
        self.kubernetes.clock().now_ms().saturating_add(PATIENCE_MS)
    }

    /// Sleeps for [`PAUSE_MS`] while an earlier cluster with the name still exists.
    ///
    /// # Errors
    /// [`Error::Unavailable`] from `until` on, in milliseconds of the clock.
    pub(super) fn pause(&self, until: u64, plan: &Plan) -> Result<(), Error> {
        if self.kubernetes.clock().now_ms() >= until {
            let reason = format!(
                "{} still exists after {} s, so it cannot be replaced",
                plan.label(),
                PATIENCE_MS / 1_000
            );
            return Err(Error::unavailable(reason, false));
        }
        self.kubernetes.clock().sleep_ms(PAUSE_MS);
        Ok(())
    }

    fn plan(&self, spec: &ClusterSpec, options: ClusterOptions) -> Result<Plan, Error> {
        let (kind, path, manifest) = match (options.ray_cluster, options.ray_job) {
            (Some(_), Some(_)) => {
                let hint = Some("keep `ray_cluster` for a cluster, or `ray_job` for an interactive job");
                return Err(Error::invalid("ray_job", "is set together with `ray_cluster`", hint));
            }
            (None, Some(job)) => (RAY_JOB, "ray_job", Some(job)),
            (cluster, None) => (RAY_CLUSTER, "ray_cluster", cluster),
        };
        let mut template = Template::read(manifest, kind, path)?;
        let namespace =
            template.namespace().or(options.namespace.as_deref()).unwrap_or(&self.namespace).to_owned();

        if kind == RAY_JOB {
            job::manifest::interactive(&mut template.spec, path, spec.image.as_deref(), &spec.env)?;
        } else {
            let path = format!("{path}.spec");
            complete_cluster(&mut template.spec, &path, spec.image.as_deref(), &spec.env)?;
        }

        let mut labels = labels::normalised(&spec.labels);
        let match_labels = options.sharing.as_ref().map(super::share::match_labels);
        let default_name = || match &match_labels {
            Some(shared) => names::shared(shared),
            None => {
                let label = |key: &str| labels.get(key).map(String::as_str);
                let user =
                    spec.labels.iter().find(|(key, _)| key == labels::USER).map(|(_, user)| user.as_str());
                names::owned(&spec.owner, label(labels::DEPLOYMENT), user)
            }
        };
        let longest = if kind == RAY_JOB { names::LONGEST_JOB } else { names::LONGEST_CLUSTER };
        let path = format!("{path}.metadata.name");
        let name = name_of(spec.name.as_deref(), &template, default_name, longest, &path)?;

        if !spec.owner.run_id.is_empty() {
            labels.insert(labels::RUN_ID.to_owned(), labels::value(&spec.owner.run_id));
        }
        labels.entry(labels::ROLE.to_owned()).or_insert_with(|| labels::ROLE_CLUSTER.to_owned());
        if let Some(key) = &spec.owner.resource_key {
            labels.entry(labels::RESOURCE_KEY.to_owned()).or_insert_with(|| labels::value(key));
        }
        labels.extend(match_labels.unwrap_or_default());
        let details = Details {
            kind: kind.kind.to_owned(),
            // The cast drops fractions of a millisecond.
            failure_tolerance_ms: (options.failure_tolerance_seconds.max(0.0) * 1_000.0) as u64,
            lease_ttl_s: options.sharing.as_ref().map(|sharing| sharing.ttl_seconds),
            only_if_unused: false,
        };
        let delete = options.sharing.as_ref().is_none_or(|sharing| sharing.delete_when_released);
        let annotations = annotations(&spec.owner, options.ttl_seconds, delete);
        let document = template.document(kind, &namespace, &name, labels, annotations);
        Ok(Plan { kind, namespace, document, owner: spec.owner.clone(), details })
    }
}

/// Returns the annotations of every object created for an owner. They suffice to clean up after a killed
/// owner.
pub(crate) fn annotations(
    owner: &Owner,
    ttl_s: Option<u64>,
    delete_when_released: bool,
) -> BTreeMap<String, Value> {
    let mut annotations = BTreeMap::new();
    annotations.insert(OWNER.to_owned(), owner_text(owner).into());
    annotations.insert(DELETE_WHEN_RELEASED.to_owned(), delete_when_released.to_string().into());
    annotations.extend(ttl_s.map(|seconds| (TTL.to_owned(), seconds.to_string().into())));
    annotations
}

/// Returns whether a cluster was created for this owner.
pub(super) fn is_of(document: &Value, owner: &Owner) -> bool {
    object::annotations(document).get(OWNER).is_some_and(|text| *text == owner_text(owner))
}

fn owner_text(owner: &Owner) -> String {
    json::text(&json!({
        "run_id": owner.run_id,
        "step_key": owner.step_key,
        "resource_key": owner.resource_key,
        "holder": owner.holder,
    }))
}
