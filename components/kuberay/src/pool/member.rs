//! A cluster of a pool: its health, its lease and what becomes of it without a run.

use dagster_ray_sdk::{bindings::cluster::ClusterState, json::Value};

use super::{
    lease::{Lease, Standing},
    options::PoolOptions,
};
use crate::{
    cluster::{created_at, state},
    kubernetes::{
        condition::{HEAD_READY, condition},
        object,
    },
    time::parse_timestamp,
};

/// Seconds for which the head of a cluster without a run may be away before the cluster is deleted.
const UNHEALTHY_S: u64 = 300;

/// Whether a run can use a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Its head is ready.
    Ready,
    /// It has not been ready yet, for this reason.
    Starting(Option<String>),
    /// It has failed, or its head is away, for this reason. No run leases it.
    Broken(String),
}

/// A cluster of a pool.
#[derive(Clone, Debug)]
pub struct Member {
    /// The RayCluster.
    pub document: Value,
    /// The cluster's latest lease.
    pub lease: Option<Lease>,
    /// Whether a run needs the cluster.
    pub standing: Standing,
}

impl Member {
    /// Reads a cluster. `jobs` are the RayJobs of its pool, `now_s` is in seconds since the Unix epoch.
    #[must_use]
    pub fn read(document: Value, jobs: &[Value], now_s: u64) -> Self {
        let lease = Lease::of(&document);
        let standing = match &lease {
            Some(lease) => lease.standing(jobs, now_s),
            None => Standing::Free(created_at(&document)),
        };
        Self { document, lease, standing }
    }

    /// Returns the cluster's name.
    #[must_use]
    pub fn name(&self) -> &str {
        object::name(&self.document)
    }

    /// Returns the number of runs that have leased the cluster.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.lease.as_ref().map_or(0, |lease| lease.runs)
    }

    /// Returns whether no run needs the cluster.
    #[must_use]
    pub fn is_free(&self) -> bool {
        !matches!(self.standing, Standing::Held(_))
    }

    /// Returns whether a run can use the cluster.
    #[must_use]
    pub fn health(&self) -> Health {
        health(&self.document)
    }

    /// Returns whether a run may lease the cluster: it is free, not broken, and has not had its number of runs.
    #[must_use]
    pub fn is_available(&self, options: &PoolOptions) -> bool {
        self.is_free() && !self.is_unusable(options)
    }

    /// Returns whether the cluster is free, and no run may lease it.
    #[must_use]
    pub fn is_unusable(&self, options: &PoolOptions) -> bool {
        let is_broken = match self.health() {
            Health::Ready => false,
            Health::Starting(_) => self.runs() > 0,
            Health::Broken(_) => true,
        };
        self.is_free() && (is_broken || self.runs() >= options.reuse)
    }

    /// Returns when the cluster was used or created last, in seconds since the Unix epoch.
    #[must_use]
    pub fn used_s(&self) -> u64 {
        let lease = self.lease.as_ref().map_or(0, |lease| lease.released_s.unwrap_or(lease.since_s));
        lease.max(created_at(&self.document))
    }

    /// Returns why a free cluster is deleted, whatever else the pool has. `None` if it is not.
    #[must_use]
    pub fn retirement(&self, options: &PoolOptions, now_s: u64) -> Option<String> {
        if !self.is_free() {
            return None;
        }
        if self.runs() >= options.reuse {
            return Some(format!("{} runs have used it, as many as `reuse` allows", self.runs()));
        }
        match self.health() {
            Health::Broken(reason) if now_s.saturating_sub(self.broken_since_s()) >= UNHEALTHY_S => {
                Some(reason)
            }
            Health::Broken(reason) if state::failure(&self.document).is_some() => Some(reason),
            _ => None,
        }
    }

    fn broken_since_s(&self) -> u64 {
        let named = |one: &&Value| object::text(one, "/type") == Some(HEAD_READY);
        let found = object::elements(&self.document, "/status/conditions").find(named);
        let since = found.and_then(|one| parse_timestamp(object::text(one, "/lastTransitionTime")?));
        match condition(&self.document, HEAD_READY) {
            Some(ready) if ready.status != "True" => since.unwrap_or(u64::MAX),
            _ => u64::MAX,
        }
    }
}

/// Returns whether a run can use a cluster.
#[must_use]
pub fn health(cluster: &Value) -> Health {
    match state::cluster_state(cluster) {
        (ClusterState::Ready, _) => Health::Ready,
        (ClusterState::Failed, reason) => {
            Health::Broken(format!("it has failed: {}", reason.unwrap_or_default()))
        }
        (ClusterState::Deleting, _) => Health::Broken("it is being deleted".to_owned()),
        (_, reason) if state::was_never_ready(cluster) => Health::Starting(reason),
        (_, reason) => Health::Broken(format!("its head is not ready: {}", reason.unwrap_or_default())),
    }
}

/// Returns the free clusters of a pool to delete, each with the reason.
///
/// A cluster in use is never among them. Of those that are only surplus, the ones that were used last are kept.
#[must_use]
pub fn surplus<'m>(
    members: &'m [Member],
    options: &PoolOptions,
    now_s: u64,
    may_end: bool,
) -> Vec<(&'m Member, String)> {
    let used_s = members.iter().map(Member::used_s).max().unwrap_or_default();
    let is_in_use = members.iter().any(|member| !member.is_free());
    let is_over = may_end && !is_in_use && now_s.saturating_sub(used_s) >= options.unused_seconds;
    let mut over: Vec<(&Member, String)> = Vec::new();
    let mut kept: Vec<&Member> = Vec::new();
    for member in members.iter().filter(|member| member.is_free()) {
        match member.retirement(options, now_s) {
            Some(reason) => over.push((member, reason)),
            None if is_over => {
                let unused_s = now_s.saturating_sub(used_s);
                over.push((member, format!("no run has used its pool for {unused_s} s")));
            }
            None => kept.push(member),
        }
    }
    kept.sort_by_key(|member| std::cmp::Reverse((member.used_s(), member.name().to_owned())));
    for member in kept.into_iter().skip(usize::try_from(options.size).unwrap_or(usize::MAX)) {
        let Standing::Free(since_s) = member.standing else { continue };
        let idle_s = now_s.saturating_sub(since_s);
        if idle_s >= options.idle_seconds {
            let reason = format!("it has been idle for {idle_s} s, and its pool keeps {}", options.size);
            over.push((member, reason));
        }
    }
    over
}
