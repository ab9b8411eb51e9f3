//! Resolves the setting `backend` to a component file. It is a built-in name, a path, or an `oci://`
//! reference.
//!
//! - [`resolve`]: resolves a name; reads nothing but the folder of built-in components.
//! - [`Transfer`]: runs a pull or a push on its own thread, so that a caller can wait in steps.
//! - [`pull`], [`push`]: transfer an artifact in the layout of `wkg`, with the component's manifest.
//! - [`answers`]: the parsers of a registry's answers.
//! - [`Store`]: holds pulled components by digest and checks each of them before use.

#![forbid(unsafe_code)]

pub mod answers;
mod artifact;
mod client;
mod credentials;
mod error;
mod location;
mod pull;
mod push;
mod reference;
mod session;
mod store;
mod transfer;

pub use error::RegistryError;
pub use location::{ComponentFile, Location, NameError, built_in, resolve};
pub use pull::pull;
pub use push::{Pushed, SignedManifest, push};
pub use reference::{PinnedReference, Reference, SCHEME};
pub use store::{Pulled, Store};
pub use transfer::Transfer;
