//! Serializes records as JSON for the simulation's bucket.

use dagster_ray_sdk::json;
use serde::{Serialize, de::DeserializeOwned};

/// Reads a record.
///
/// # Errors
/// A message if the bytes are not such a record.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let value = json::parse(bytes).map_err(|error| error.to_string())?;
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// Writes a record.
///
/// # Errors
/// The record cannot be represented as JSON.
pub(crate) fn write(record: &impl Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_value(record).map(|value| json::text(&value))
}
