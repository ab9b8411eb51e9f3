//! Kubernetes API requests and the grants that allow them.

pub mod grant;
pub mod rbac;
pub mod request_info;
mod service;

pub use self::grant::{Resource, Rule};
pub use self::request_info::{RequestInfo, Verb};
pub use self::service::ServiceName;
