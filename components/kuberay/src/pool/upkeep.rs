//! Refills a pool, and deletes the clusters that it does not need.

use dagster_ray_sdk::{Error, clock::Clock, http::Http, info};

use super::{
    Pool, Pools, Seen,
    lease::{Lease, Standing},
    member::{Member, surplus},
};

impl<H: Http, C: Clock> Pools<'_, H, C> {
    /// Creates clusters until the pool has `size` free ones or `max` in all, and deletes free ones that are broken,
    /// worn or surplus.
    ///
    /// A failure is only logged: the next launch tries again.
    pub fn keep_up(&self, pool: &Pool) {
        if let Err(error) = self.try_keep_up(pool) {
            info!("the pool {} was not refilled: {}", pool.id, error.message());
        }
    }

    fn try_keep_up(&self, pool: &Pool) -> Result<(), Error> {
        let seen = self.see(pool)?;
        for member in &seen.members {
            if let (Standing::Over(_), Some(lease)) = (&member.standing, &member.lease) {
                // The time without a run begins. A cluster that has changed is left to the next launch.
                let over = Lease { released_s: Some(seen.now_s), ..lease.clone() };
                self.write(&member.document, &over, &pool.options)?;
            }
        }
        for (member, reason) in surplus(&seen.members, &pool.options, seen.now_s, false) {
            info!("deleting the RayCluster {}/{} of a pool: {reason}", pool.namespace, member.name());
            self.delete(&member.document)?;
        }
        let mut seen = self.see(pool)?;
        while needs_cluster(pool, &seen) {
            if self.create(pool, &seen, None)?.is_none() {
                // Another process refills the pool, too.
                return Ok(());
            }
            seen = self.see(pool)?;
        }
        Ok(())
    }
}

/// Returns whether a pool has fewer free clusters than it keeps, and may have one more.
fn needs_cluster(pool: &Pool, seen: &Seen) -> bool {
    let is_available = |member: &&Member| member.is_available(&pool.options);
    let available = seen.members.iter().filter(is_available).count() as u64;
    available < pool.options.size && (seen.members.len() as u64) < pool.options.max
}
