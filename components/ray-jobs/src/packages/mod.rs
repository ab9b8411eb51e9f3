//! Uploads local directories and files, as Ray's own client does.
//!
//! A directory becomes `gcs://_ray_pkg_<hash>.zip`. The hash is the one that Ray computes from names and
//! contents, so that both clients reuse each other's packages. Packages are checked and uploaded with
//! `GET` and `PUT /api/packages/gcs/<name>`.

mod checksum;
mod environment;
mod hash;
mod ignore;
mod location;
mod source;
mod tree;
mod zip_archive;

pub use environment::{PackageRules, PackageStore, Writer, prepare};
pub use location::{is_local_path, local_paths};
pub use source::{File, HostPackages, Packages, Source};

#[cfg(test)]
mod tests;
