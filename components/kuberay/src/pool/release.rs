//! Ends the leases of a run.

use dagster_ray_sdk::{Error, clock::Clock, http::Http, info, json::Value, progress::ProgressListener};

use super::{Pools, lease::Lease, options::PoolOptions};
use crate::{
    kubernetes::{LONG_FIELDS, RAY_CLUSTER, Selection, object},
    labels,
};

/// How often to try again when a cluster changes in the meantime.
const MAX_ATTEMPTS: u32 = 20;

impl<H: Http, C: Clock> Pools<'_, H, C> {
    /// Marks the leases of a run as over. The clusters become free once the run's worker has exited. What is left on
    /// them is stopped before another run uses them.
    pub fn end(&self, namespace: &str, run_id: &str) -> Result<(), Error> {
        for cluster in self.leased_by(namespace, run_id)? {
            self.mark(&cluster)?;
        }
        Ok(())
    }

    /// Stops what a run left on its clusters, and marks their leases as over. A cluster on which something cannot be
    /// stopped is deleted.
    ///
    /// # Errors
    /// The first error, after every cluster was tried.
    pub fn take_back(
        &self,
        namespace: &str,
        run_id: &str,
        listener: &impl ProgressListener,
    ) -> Result<(), Error> {
        let mut first_error = None;
        for cluster in self.leased_by(namespace, run_id)? {
            first_error = first_error.or(self.take_back_one(&cluster, listener).err());
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Stops what is left on one cluster, and marks its lease as over, or deletes the cluster.
    pub(super) fn take_back_one(
        &self,
        cluster: &Value,
        listener: &impl ProgressListener,
    ) -> Result<(), Error> {
        let error = match self.clean(cluster, listener) {
            Ok(()) => return self.mark(cluster),
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => error,
        };
        let (namespace, name) = (object::namespace(cluster), object::name(cluster));
        info!("deleting the RayCluster {namespace}/{name}, which cannot be used again: {}", error.message());
        for _ in 0..MAX_ATTEMPTS {
            let Some(current) = self.same_lease(cluster)? else { return Ok(()) };
            if self.delete(&current)? {
                return Ok(());
            }
        }
        Err(changed(cluster))
    }

    /// Returns the cluster that a run has leased, if it has one.
    pub fn leased(&self, namespace: &str, run_id: &str) -> Result<Option<Value>, Error> {
        let found = self.leased_by(namespace, run_id)?;
        let is_confirmed = |one: &Value| Lease::of(one).is_some_and(|lease| lease.is_confirmed);
        Ok(found.into_iter().find(is_confirmed))
    }

    /// Returns a run's clusters whose leases have not ended.
    fn leased_by(&self, namespace: &str, run_id: &str) -> Result<Vec<Value>, Error> {
        let which = Selection::Labels(format!("{}={}", labels::POOL_RUN, labels::value(run_id)));
        let listed = self.clusters.kubernetes.list(RAY_CLUSTER, namespace, &which, &LONG_FIELDS)?;
        let is_leased = |cluster: &&Value| Lease::of(cluster).is_some_and(|lease| lease.is_of(run_id));
        Ok(object::elements(&listed, "/items")
            .filter(|cluster| !object::is_deleting(cluster))
            .filter(is_leased)
            .cloned()
            .collect())
    }

    /// Marks a lease as over, unless it has ended or another run has the cluster.
    pub(super) fn mark(&self, cluster: &Value) -> Result<(), Error> {
        let mut current = cluster.clone();
        for _ in 0..MAX_ATTEMPTS {
            let Some(lease) = Lease::of(&current) else { return Ok(()) };
            let over = Lease { released_s: Some(self.clusters.kubernetes.now_s()?), ..lease };
            if self.write(&current, &over, &PoolOptions::of(&current))?.is_some() {
                return Ok(());
            }
            match self.same_lease(cluster)? {
                Some(found) => current = found,
                None => return Ok(()),
            }
        }
        Err(changed(cluster))
    }

    /// Returns the current state of a cluster if its lease is the same and has not ended.
    fn same_lease(&self, cluster: &Value) -> Result<Option<Value>, Error> {
        let (namespace, name) = (object::namespace(cluster), object::name(cluster));
        let current = match self.clusters.kubernetes.get(RAY_CLUSTER, namespace, name) {
            Ok(current) => current,
            Err(Error::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let is_same = object::uid(&current) == object::uid(cluster)
            && !object::is_deleting(&current)
            && Lease::of(&current).is_some_and(|lease| lease.released_s.is_none())
            && Lease::of(&current).map(|lease| lease.run_id) == Lease::of(cluster).map(|lease| lease.run_id);
        Ok(is_same.then_some(current))
    }
}

fn changed(cluster: &Value) -> Error {
    let (namespace, name) = (object::namespace(cluster), object::name(cluster));
    let reason = format!(
        "the RayCluster {namespace}/{name} changed during each of {MAX_ATTEMPTS} attempts to end its lease"
    );
    Error::unavailable(reason, false)
}
