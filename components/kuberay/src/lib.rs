//! Backend that makes Ray clusters and Ray jobs through KubeRay.
//!
//! - [`kubernetes`]: the API server, as the host lends it.
//! - [`options`], [`manifest`]: what users ask for, and what KubeRay is given.
//! - [`names`], [`labels`], [`leases`], [`time`]: how things are found again, and told from one another.
//! - [`cluster`]: the contract's clusters.
//! - [`job`]: RayJobs; [`launcher`], [`executor`] and [`pipes`] on top of them.
//! - [`component`]: the exports.

pub mod bindings;
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
pub mod time;
