//! Removes what earlier attempts of a step left in a namespace.

use dagster_ray_sdk::{Error, bindings::cluster::Query, clock::Clock, http::Http, info, progress::DebugLog};

use super::{Found, TIMEOUT_MS, is_shared, owner};
use crate::{
    cluster::Clusters,
    job::{status::RayJob, stop},
    kubernetes::{Kind, Precondition, RAY_JOB, object},
    labels,
};

/// An attempt of a step that begins.
pub(crate) struct NewAttempt<'s> {
    pub(crate) deployment: &'s str,
    pub(crate) run_id: &'s str,
    pub(crate) step_key: &'s str,
    pub(crate) attempt: u32,
    /// Whether an earlier worker of the same attempt has ended. Its scripts and clusters are removed too.
    pub(crate) is_relaunch: bool,
}

/// Stops and deletes the objects of a kind that earlier workers of a step left in a namespace.
///
/// # Errors
/// If the objects cannot be listed, or one of them cannot be deleted: it must not run beside the new attempt.
pub(crate) fn remove_earlier<H: Http, C: Clock>(
    clusters: &Clusters<H, C>,
    kind: Kind,
    namespace: &str,
    new: &NewAttempt<'_>,
) -> Result<(), Error> {
    let query = Query {
        namespace: Some(namespace.to_owned()),
        labels: vec![(labels::RUN_ID.to_owned(), new.run_id.to_owned())],
        selector: None,
        kind: None,
    };
    let mut workers = Vec::new();
    for document in clusters.list_objects(kind, &query)? {
        let found = Found { kind, owner: owner(&document, new.deployment), document };
        if !is_earlier(&found, new) {
            continue;
        }
        info!(
            "deleting the {} {namespace}/{} of an earlier attempt",
            kind.kind,
            object::name(&found.document)
        );
        if found.is_worker() {
            workers.push(RayJob::read(&found.document));
        } else {
            let same =
                Precondition { uid: Some(object::uid(&found.document).to_owned()), resource_version: None };
            clusters.kubernetes.delete(kind, namespace, object::name(&found.document), &same)?;
        }
    }
    if !workers.is_empty() {
        stop::stop_jobs(&clusters.kubernetes, &workers.iter().collect::<Vec<_>>(), TIMEOUT_MS, &DebugLog)?;
    }
    Ok(())
}

fn is_earlier(found: &Found, new: &NewAttempt<'_>) -> bool {
    let document = &found.document;
    let has_ended = found.kind == RAY_JOB && RayJob::read(document).status().ended;
    let is_before = found.owner.attempt.is_some_and(|attempt| {
        attempt < new.attempt || (new.is_relaunch && attempt == new.attempt && !found.owner.is_step_worker)
    });
    found.owner.is_owned
        && is_before
        && found.owner.step_key.as_deref() == Some(new.step_key)
        && !has_ended
        && !object::is_deleting(document)
        && !object::is_owned(document)
        && !is_shared(document)
        && !object::labels(document).contains_key(labels::KEEP)
}
