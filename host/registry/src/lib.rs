//! From what a user writes as `backend` to a component file.
//!
//! - [`find`]: a built-in name, or a path.

mod error;
mod name;

pub use error::NameError;
pub use name::{Found, built_in, find};
