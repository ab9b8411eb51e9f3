//! Client of the Ray Jobs REST API for components.
