//! Random bytes for unique names, and random numbers for waits.

use crate::hex;

/// Returns `bytes` random bytes as lowercase hexadecimal digits.
#[must_use]
pub fn hex(bytes: usize) -> String {
    hex::encode(&random_bytes(bytes))
}

/// Returns a random number from 0 to `max`.
#[must_use]
pub fn up_to(max: u64) -> u64 {
    let bytes: [u8; 8] = random_bytes(8).try_into().unwrap_or_default();
    // The high word of the product is uniform enough for waits, and has no division.
    ((u128::from(u64::from_le_bytes(bytes)) * (u128::from(max) + 1)) >> 64) as u64
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

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_reach_both_ends_and_stay_within_them() {
        let found: std::collections::BTreeSet<u64> = (0..500).map(|_| super::up_to(3)).collect();
        assert_eq!(found, [0, 1, 2, 3].into());
        assert_eq!(super::up_to(0), 0);
    }
}
