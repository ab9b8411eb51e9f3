//! Finds and stops what runs on after its run or step attempt is over.
//!
//! - [`facts`]: whether an object has outlived its owner, by what Dagster knows.
//! - [`jobs`]: the contract's `reconciler` for Ray jobs.
//! - [`earlier`]: what earlier attempts of a step, or the killed worker of a run, left in Ray.

pub mod earlier;
pub mod facts;
pub mod jobs;

#[cfg(test)]
mod tests;
