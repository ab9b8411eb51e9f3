//! Backend that creates Ray clusters and Ray jobs through KubeRay.
//!
//! - [`kubernetes`]: client of the API server.
//! - [`options`], [`manifest`]: the user's options, and the manifests built from them.
//! - [`names`], [`labels`], [`annotations`], [`leases`], [`time`]: names, labels and annotations of objects,
//!   and timestamps.
//! - [`cluster`]: the contract's `cluster` interface.
//! - [`job`]: RayJobs, used by [`launcher`], [`executor`] and [`pipes`].
//! - [`pool`]: clusters that stay ready between runs.
//! - [`reconcile`]: the contract's `reconciler`.
//! - [`service`]: RayServices, as clusters that serve applications.
//! - [`component`]: the component's exports.

pub mod annotations;
pub mod cluster;
pub mod component;
pub mod executor;
pub mod job;
pub mod kubernetes;
pub mod labels;
pub mod launcher;
pub mod leases;
pub mod manifest;
pub mod names;
pub mod options;
pub mod pipes;
pub mod pool;
pub mod reconcile;
pub mod time;
