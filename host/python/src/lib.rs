//! The extension module dagster_ray._native.
