//! Taking local directories and files along, as Ray's own client does.
//!
//! A directory becomes `gcs://_ray_pkg_<hash>.zip`. The hash is Ray's, over names and contents, so
//! that whatever either client has uploaded serves the other. Names: `GET` and `PUT
//! /api/packages/gcs/<name>`.

mod environment;
mod hash;
mod ignore;
mod source;
mod tree;
mod zipped;

pub use environment::{PackageRules, Store, Writer, prepare};
pub use source::{File, HostPackages, Packages, Source};

#[cfg(test)]
mod tests;
