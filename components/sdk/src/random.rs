//! Random bytes for unique names.

use crate::hex;

/// Returns `bytes` random bytes as lowercase hexadecimal digits.
#[must_use]
pub fn hex(bytes: usize) -> String {
    hex::encode(&random_bytes(bytes))
}

#[cfg(target_family = "wasm")]
fn random_bytes(count: usize) -> Vec<u8> {
    wasip2::random::random::get_random_bytes(count as u64)
}

/// A native build has no host import. The seed of the standard library's hash maps is random enough
/// for tests.
#[cfg(not(target_family = "wasm"))]
fn random_bytes(count: usize) -> Vec<u8> {
    use std::hash::{BuildHasher, RandomState};

    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        bytes.extend_from_slice(&RandomState::new().hash_one(bytes.len()).to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}
