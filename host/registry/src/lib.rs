//! From what a user writes as `backend` to a component file: a built-in name, a path, or an
//! `oci://` reference into a registry.
//!
//! - [`named`]: what a name stands for, without looking anywhere but into one folder.
//! - [`Work`]: what asks a registry, on a thread of its own, so that a caller can wait in steps.
//! - [`pull`], [`push`]: an artifact as `wkg` lays it out, with the component's manifest in it.
//! - [`Store`]: what was pulled, kept by digest and checked against it before each use.

mod artifact;
mod client;
mod credentials;
mod error;
mod name;
mod pull;
mod push;
mod reference;
mod store;
mod work;

pub use error::RegistryError;
pub use name::{Found, NameError, Named, built_in, named};
pub use pull::pull;
pub use push::{Pushed, push};
pub use reference::{Pinned, Place, SCHEME};
pub use store::{Pulled, Store};
pub use work::Work;
