//! The host: loads components and lends them what their grants say.
