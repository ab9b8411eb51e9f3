//! Leases a cluster of a pool for a run, or creates one.

use dagster_ray_sdk::{Error, clock::Clock, http::Http, info, json::Value, progress::DebugLog};

use super::{
    Pool, Pools, Seen,
    lease::{Lease, Standing},
    member::{Health, Member, health},
};
use crate::{
    kubernetes::{Precondition, RAY_CLUSTER, object},
    labels,
};

/// The pause after another process was faster, and while all clusters are in use. A random part is added.
const PAUSE_MS: u64 = 500;
/// Seconds after which a lease that is not confirmed counts as that of a killed process.
const UNCONFIRMED_S: u64 = 30;

/// Who leases a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'s> {
    /// The Dagster run id.
    pub run_id: &'s str,
    /// The name of the run worker's RayJob. `None` for a step, which uses the cluster that its run has leased.
    pub job: Option<&'s str>,
}

/// The outcome of one attempt to lease a cluster.
enum Attempt {
    /// The run has this cluster.
    Leased(Value),
    /// Another process has changed the pool.
    Raced,
    /// No cluster is free, and the pool may have no more, for this reason.
    Full(String),
}

impl<H: Http, C: Clock> Pools<'_, H, C> {
    /// Returns the cluster that a run has leased, or leases one: a ready one, one that is starting, or a new one. A run
    /// that has a cluster of the pool gets the same one again.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if all clusters that the pool may have were in use for `wait_seconds`.
    pub fn acquire(&self, pool: &Pool, claim: Claim<'_>) -> Result<Value, Error> {
        if claim.job.is_none()
            && let Some(cluster) = self.of_worker(pool, claim.run_id)?
        {
            return Ok(cluster);
        }
        let clock = self.clusters.kubernetes.clock();
        let until_ms = clock.now_ms().saturating_add(pool.options.wait_seconds.saturating_mul(1_000));
        let mut reported = String::new();
        loop {
            let seen = self.see(pool)?;
            let reason = match self.attempt(pool, claim, &seen)? {
                Attempt::Leased(cluster) => return Ok(cluster),
                Attempt::Raced => None,
                Attempt::Full(reason) => Some(reason),
            };
            if let Some(reason) = &reason
                && *reason != reported
            {
                info!("waiting for a cluster: {reason}");
                reported.clone_from(reason);
            }
            if clock.now_ms() >= until_ms {
                let reason =
                    reason.unwrap_or_else(|| format!("the clusters of the pool {} keep changing", pool.id));
                let hint = "raise `pool.max`, or limit the runs in Dagster's queue";
                let text = format!("no cluster within {} s: {reason}; {hint}", pool.options.wait_seconds);
                return Err(Error::unavailable(text, false));
            }
            clock.sleep_ms(PAUSE_MS + clock.jitter_ms(PAUSE_MS));
        }
    }

    /// Returns the cluster of the run's worker, if it is like those of the pool. A run tag can give the worker another
    /// key than the steps have.
    fn of_worker(&self, pool: &Pool, run_id: &str) -> Result<Option<Value>, Error> {
        let found = self.leased(&pool.namespace, run_id)?;
        Ok(found.filter(|cluster| {
            let id = object::labels(cluster).get(labels::POOL).copied().unwrap_or_default();
            id.starts_with(&pool.alike) && !matches!(health(cluster), Health::Broken(_))
        }))
    }

    fn attempt(&self, pool: &Pool, claim: Claim<'_>, seen: &Seen) -> Result<Attempt, Error> {
        if let Some(attempt) = self.reuse(pool, claim, seen)? {
            return Ok(attempt);
        }
        let mut candidates: Vec<&Member> =
            seen.members.iter().filter(|member| member.is_available(&pool.options)).collect();
        // Clusters that were used last come first, so that the others can become surplus.
        candidates.sort_by_key(|member| {
            let is_ready = member.health() == Health::Ready;
            std::cmp::Reverse((is_ready, member.used_s(), member.name().to_owned()))
        });
        if let Some(candidate) = candidates.first() {
            return self.lease(pool, claim, seen, candidate);
        }
        let is_full = seen.members.len() as u64 >= pool.options.max;
        if is_full
            && let Some(unusable) = seen.members.iter().find(|member| member.is_unusable(&pool.options))
        {
            self.delete(&unusable.document)?;
            return Ok(Attempt::Raced);
        }
        if !is_full {
            let lease = lease(pool, claim, seen, 1);
            let Some(made) = self.create(pool, seen, Some(&lease))? else { return Ok(Attempt::Raced) };
            // A process that saw fewer clusters may have created one with another name.
            if self.see(pool)?.members.len() as u64 > pool.options.max {
                let same = Precondition {
                    uid: Some(object::uid(&made.document).to_owned()),
                    resource_version: None,
                };
                self.clusters.kubernetes.delete(RAY_CLUSTER, &pool.namespace, made.name(), &same)?;
                return Ok(Attempt::Raced);
            }
            info!(
                "created the RayCluster {}/{} for the run: the pool {} had no free one",
                pool.namespace,
                made.name(),
                pool.id
            );
            return self.confirm(pool, claim, made.document);
        }
        Ok(Attempt::Full(full(pool, seen)))
    }

    /// Returns the run's cluster, if it has one.
    fn reuse(&self, pool: &Pool, claim: Claim<'_>, seen: &Seen) -> Result<Option<Attempt>, Error> {
        for member in &seen.members {
            let Some(held) = member.lease.as_ref().filter(|lease| lease.is_of(claim.run_id)) else {
                continue;
            };
            let is_stale = !held.is_confirmed && seen.now_s.saturating_sub(held.since_s) >= UNCONFIRMED_S;
            let has_failed = matches!(member.health(), Health::Broken(_));
            if is_stale || has_failed {
                let over = Lease { released_s: Some(seen.now_s), ..held.clone() };
                self.write(&member.document, &over, &pool.options)?;
                return Ok(Some(Attempt::Raced));
            }
            if !held.is_confirmed {
                // Another step of the run is about to confirm it.
                return Ok(Some(Attempt::Raced));
            }
            let job = claim.job.map(str::to_owned).or_else(|| held.job.clone());
            if job == held.job {
                return Ok(Some(Attempt::Leased(member.document.clone())));
            }
            let resumed = Lease { job, since_s: seen.now_s, ..held.clone() };
            let written = self.write(&member.document, &resumed, &pool.options)?;
            return Ok(Some(written.map_or(Attempt::Raced, Attempt::Leased)));
        }
        Ok(None)
    }

    /// Leases a free cluster, and stops what its last run left there.
    fn lease(&self, pool: &Pool, claim: Claim<'_>, seen: &Seen, member: &Member) -> Result<Attempt, Error> {
        let lease = lease(pool, claim, seen, member.runs() + 1);
        let Some(leased) = self.write(&member.document, &lease, &pool.options)? else {
            return Ok(Attempt::Raced);
        };
        if member.runs() > 0
            && let Err(error) = self.clean(&leased, &DebugLog)
        {
            info!(
                "deleting the RayCluster {}/{}, which cannot be used again: {}",
                pool.namespace,
                member.name(),
                error.message()
            );
            let over = Lease { released_s: Some(seen.now_s), runs: pool.options.reuse, ..lease };
            // If it has changed, it is deleted later: it has had its number of runs.
            if let Some(over) = self.write(&leased, &over, &pool.options)? {
                self.delete(&over)?;
            }
            return Ok(Attempt::Raced);
        }
        let how = match member.health() {
            Health::Ready => "is ready",
            Health::Starting(_) | Health::Broken(_) => "is starting",
        };
        info!("leased the RayCluster {}/{} of the pool {}: it {how}", pool.namespace, member.name(), pool.id);
        self.confirm(pool, claim, leased)
    }

    /// Confirms the lease of a step, unless another step of the run has leased another cluster.
    fn confirm(&self, pool: &Pool, claim: Claim<'_>, leased: Value) -> Result<Attempt, Error> {
        if claim.job.is_some() {
            return Ok(Attempt::Leased(leased));
        }
        loop {
            let seen = self.see(pool)?;
            let of_run =
                |member: &&Member| member.lease.as_ref().is_some_and(|lease| lease.is_of(claim.run_id));
            let (ours, others): (Vec<&Member>, Vec<&Member>) = seen
                .members
                .iter()
                .filter(of_run)
                .partition(|member| object::uid(&member.document) == object::uid(&leased));
            let Some((member, lease)) = ours.first().and_then(|one| Some((*one, one.lease.clone()?))) else {
                return Ok(Attempt::Raced);
            };
            let is_confirmed = |one: &Member| one.lease.as_ref().is_some_and(|lease| lease.is_confirmed);
            let (written, attempt) = if others.is_empty() {
                (Lease { is_confirmed: true, ..lease }, None)
            } else if others.iter().any(|one| is_confirmed(one) || one.name() < member.name()) {
                (Lease { released_s: Some(seen.now_s), ..lease }, Some(Attempt::Raced))
            } else {
                // The other steps release their clusters when they see this one.
                self.clusters.kubernetes.clock().sleep_ms(PAUSE_MS);
                for other in others {
                    let stale = other
                        .lease
                        .clone()
                        .filter(|lease| seen.now_s.saturating_sub(lease.since_s) >= UNCONFIRMED_S);
                    if let Some(stale) = stale {
                        let over = Lease { released_s: Some(seen.now_s), ..stale };
                        self.write(&other.document, &over, &pool.options)?;
                    }
                }
                continue;
            };
            if let Some(patched) = self.write(&member.document, &written, &pool.options)? {
                return Ok(attempt.unwrap_or(Attempt::Leased(patched)));
            }
        }
    }
}

fn lease(pool: &Pool, claim: Claim<'_>, seen: &Seen, runs: u64) -> Lease {
    Lease {
        deployment: pool.deployment.clone(),
        run_id: claim.run_id.to_owned(),
        job: claim.job.map(str::to_owned),
        since_s: seen.now_s,
        is_confirmed: claim.job.is_some(),
        released_s: None,
        runs,
    }
}

/// Returns why a pool has no cluster for a run.
fn full(pool: &Pool, seen: &Seen) -> String {
    let why = |member: &Member| match (&member.standing, member.health()) {
        (Standing::Held(reason), _) => format!("{} is leased ({reason})", member.name()),
        (_, Health::Broken(reason)) => format!("{} cannot be used ({reason})", member.name()),
        _ => format!("{} is replaced after {} runs", member.name(), member.runs()),
    };
    let all: Vec<String> = seen.members.iter().map(why).collect();
    format!(
        "the pool {} has {} clusters, and its `max` is {}: {}",
        pool.id,
        seen.members.len(),
        pool.options.max,
        all.join("; ")
    )
}
