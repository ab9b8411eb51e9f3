//! Waits until the deployed specification of a RayService has the traffic, and its old clusters are gone.

use dagster_ray_sdk::{
    Error,
    bindings::cluster::EndpointSet,
    clock::Clock,
    http::Http,
    json::Value,
    model::ApiError,
    progress::{Level, ProgressListener},
};

use super::{
    Services,
    state::{ACTIVE, Health, PENDING, cluster, endpoints, health},
};
use crate::{
    cluster::{Target, head},
    kubernetes::{
        LONG_FIELDS, POD, RAY_CLUSTER, RAY_SERVICE, Selection, object,
        watch::{Change, Watch},
    },
};

/// KubeRay's labels of a RayCluster that it made for another object.
const FROM_NAME: &str = "ray.io/originated-from-cr-name";
const FROM_KIND: &str = "ray.io/originated-from-crd";
/// The interval at which cancellation is checked.
const SLICE_MS: u64 = 200;
/// The interval at which the old clusters are counted.
const OLD_MS: u64 = 1_000;

impl<H: Http, C: Clock> Services<'_, H, C> {
    /// Waits until a RayService is healthy, and until KubeRay has deleted the clusters of earlier versions.
    ///
    /// # Errors
    /// [`Error::Backend`] with Serve's or KubeRay's reason if the deployment fails or is not healthy in time. The
    /// version that was healthy before serves on.
    pub(crate) fn wait(
        &self,
        target: &Target,
        timeout_ms: u64,
        listener: &dyn ProgressListener,
    ) -> Result<EndpointSet, Error> {
        let kubernetes = &self.clusters.kubernetes;
        let until_ms = kubernetes.clock().now_ms().saturating_add(timeout_ms);
        let selection = Selection::Name(target.name.clone());
        let mut watch = Watch::new(kubernetes, RAY_SERVICE, &target.namespace, selection);
        let mut last: Option<(Value, String)> = None;
        loop {
            if listener.cancelled() {
                return Err(Error::Cancelled);
            }
            let left_ms = until_ms.saturating_sub(kubernetes.clock().now_ms());
            let document = match watch.next(SLICE_MS.min(left_ms), left_ms)? {
                Some(Change::Updated(document)) => document,
                Some(Change::Deleted(_)) => {
                    return Err(Error::NotFound(format!("{} does not exist", target.label())));
                }
                None if left_ms == 0 => {
                    let (service, reason) = last.unwrap_or_default();
                    let what = format!("is not healthy after {} s", timeout_ms / 1_000);
                    return Err(self.failed(target, &service, "NotHealthyInTime", &what, &reason));
                }
                None => continue,
            };
            if !target.matches_uid(&document) {
                return Err(crate::cluster::replaced(target));
            }
            match health(&document) {
                Health::Healthy => {
                    self.await_end_of_old(target, &document, until_ms, listener)?;
                    return Ok(endpoints(&document));
                }
                Health::Failed(reason) => {
                    return Err(self.failed(target, &document, "Failed", "was not deployed", &reason));
                }
                Health::Pending(reason) => {
                    if last.as_ref().is_none_or(|(_, known)| *known != reason) {
                        listener.log(Level::Info, &format!("{}: {reason}", target.label()));
                    }
                    last = Some((document, reason));
                }
            }
        }
    }

    /// Waits until KubeRay has deleted the clusters that have no traffic any more. They serve no requests, so at the end
    /// of the time they are only reported.
    fn await_end_of_old(
        &self,
        target: &Target,
        service: &Value,
        until_ms: u64,
        listener: &dyn ProgressListener,
    ) -> Result<(), Error> {
        let kubernetes = &self.clusters.kubernetes;
        let which =
            Selection::Labels(format!("{FROM_NAME}={},{FROM_KIND}={}", target.name, RAY_SERVICE.kind));
        let mut is_reported = false;
        loop {
            let listed = kubernetes.list(RAY_CLUSTER, &target.namespace, &which, &LONG_FIELDS)?;
            let active = cluster(service, ACTIVE).unwrap_or_default();
            let old: Vec<&str> = object::elements(&listed, "/items")
                .filter(|one| object::name(one) != active && !object::is_deleting(one))
                .map(object::name)
                .collect();
            let (Some(first), false) = (old.first(), listener.cancelled()) else {
                return if listener.cancelled() { Err(Error::Cancelled) } else { Ok(()) };
            };
            if !is_reported {
                is_reported = true;
                listener.log(
                    Level::Info,
                    &format!("{}: the new version serves, and {first} ends", target.label()),
                );
            }
            if kubernetes.clock().now_ms() >= until_ms {
                let text = format!("{}: KubeRay has not deleted {first} yet", target.label());
                listener.log(Level::Warning, &text);
                return Ok(());
            }
            kubernetes.clock().sleep_ms(OLD_MS);
        }
    }

    fn failed(&self, target: &Target, service: &Value, name: &str, what: &str, reason: &str) -> Error {
        let mut message = format!("{} {what}: {reason}", target.label());
        let new = cluster(service, PENDING).or_else(|| cluster(service, ACTIVE));
        if let Some(new) = new
            && let Ok(pods) = self.clusters.kubernetes.list(
                POD,
                &target.namespace,
                &head::selection(new),
                &["managedFields"],
            )
        {
            for failure in object::elements(&pods, "/items").flat_map(head::failures) {
                message.push_str("; ");
                message.push_str(&failure);
            }
        }
        if let (Some(old), Some(_)) = (cluster(service, ACTIVE), cluster(service, PENDING)) {
            message.push_str(&format!("; the earlier version serves on (cluster {old})"));
        }
        Error::Backend(ApiError { status: 0, reason: name.to_owned(), message, details: None })
    }
}
