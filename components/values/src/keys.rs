//! The keys of stored values.
//!
//! - The value of an asset: `<deployment>/asset/<part>/…/=<partition>`, with an empty partition if there is
//!   none.
//! - Any other value: `<deployment>/run/<run id>/<step>/<output>`, with `/=<mapping key>` for a dynamic output.
//!
//! Several Dagster deployments may use one store. None of them finds the values of another.
//!
//! Every part is escaped, so that it contains only characters that are safe in a file name, and so that two
//! addresses never have the same key.

use dagster_ray_sdk::hex;
use sha2::{Digest, Sha256};

use dagster_ray_sdk::bindings::io::Address;

/// The longest escaped part, in bytes. Most file systems limit a name to 255 bytes; a store adds a suffix.
const MAX_PART_BYTES: usize = 160;
/// The number of bytes of a longer part that its key keeps before a digest.
const READABLE_BYTES: usize = 100;
const DIGEST_BYTES: usize = 16;

/// The keys of one Dagster deployment.
pub struct Keys {
    /// The deployment's prefix, which ends with `/`.
    prefix: String,
}

impl Keys {
    /// Returns the keys of a deployment. An empty id stands for values that belong to none.
    #[must_use]
    pub fn new(deployment: &str) -> Self {
        Self { prefix: format!("{}/", escaped(deployment)) }
    }

    /// Returns the key of an output.
    #[must_use]
    pub fn output(&self, address: &Address) -> String {
        if let Some(asset) = &address.asset {
            let partition = address.partition.as_deref().map(escaped).unwrap_or_default();
            return format!("{}{partition}", self.asset(asset));
        }
        let output = format!(
            "{}{}/{}",
            self.run(&address.run_id),
            escaped(&address.step_key),
            escaped(&address.output_name)
        );
        match &address.mapping_key {
            Some(mapping) => format!("{output}/={}", escaped(mapping)),
            None => output,
        }
    }

    /// Returns the key prefix of an asset's values.
    #[must_use]
    pub fn asset(&self, parts: &[String]) -> String {
        let parts: Vec<_> = parts.iter().map(|part| escaped(part)).collect();
        format!("{}asset/{}/=", self.prefix, parts.join("/"))
    }

    /// Returns the key prefix of all values that belong to a run.
    #[must_use]
    pub fn runs(&self) -> String {
        format!("{}run/", self.prefix)
    }

    /// Returns the key prefix of a run's values.
    #[must_use]
    pub fn run(&self, run_id: &str) -> String {
        format!("{}{}/", self.runs(), escaped(run_id))
    }

    /// Returns whether a key is one of the deployment's.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        key.starts_with(&self.prefix)
    }
}

/// Escapes a part of a key: letters, digits, `_`, `-` and inner dots stay, other bytes are percent-encoded.
fn escaped(part: &str) -> String {
    if part.is_empty() {
        return "%".to_owned();
    }
    let mut out = String::with_capacity(part.len());
    for (at, byte) in part.bytes().enumerate() {
        // A leading dot would hide the file, and `..` would leave the directory.
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || (byte == b'.' && at > 0) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    if out.len() > MAX_PART_BYTES {
        let digest = hex::encode(&Sha256::digest(part.as_bytes())[..DIGEST_BYTES]);
        out.truncate(READABLE_BYTES);
        // A short part never contains a plain `~`, so it cannot equal a shortened one.
        return format!("{out}~{digest}");
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn key(address: &Address) -> String {
        Keys::new("d").output(address)
    }

    fn asset(parts: &[&str], partition: Option<&str>) -> Address {
        Address {
            asset: Some(parts.iter().map(|part| (*part).to_owned()).collect()),
            partition: partition.map(str::to_owned),
            run_id: "r".into(),
            step_key: "s".into(),
            output_name: "result".into(),
            mapping_key: None,
        }
    }

    #[test]
    fn asset_keys_distinguish_parts_and_partitions() {
        let all = [
            asset(&["a", "b"], None),
            asset(&["a/b"], None),
            asset(&["a"], Some("b")),
            asset(&["a", "=b"], None),
            asset(&["a"], Some("")),
            asset(&["a", ""], None),
            asset(&["a"], Some("..")),
            asset(&["a"], Some("../b")),
            asset(&["a"], Some("2024-01-01|b")),
        ];
        let keys: BTreeSet<_> = all.iter().map(key).collect();
        assert_eq!(keys.len(), all.len(), "{keys:?}");
        assert_eq!(key(&asset(&["my asset"], Some("2024-01-01"))), "d/asset/my%20asset/=2024-01-01");
    }

    #[test]
    fn output_keys_start_with_the_run_and_end_with_the_mapping_key() {
        let mut address = asset(&[], None);
        address.asset = None;
        address.step_key = "fan[one]".into();
        assert_eq!(key(&address), "d/run/r/fan%5Bone%5D/result");
        address.mapping_key = Some("one".into());
        assert_eq!(key(&address), "d/run/r/fan%5Bone%5D/result/=one");
    }

    #[test]
    fn deployments_share_no_key_and_no_prefix() {
        let address = asset(&["a"], None);
        let deployments = ["", "a", "a/asset", "../a", "A"].map(Keys::new);
        for (at, one) in deployments.iter().enumerate() {
            for (other_at, other) in deployments.iter().enumerate() {
                assert_eq!(one.contains(&other.output(&address)), at == other_at);
                assert_eq!(one.runs().starts_with(&other.runs()), at == other_at);
            }
        }
    }

    proptest! {
        #[test]
        fn different_partitions_have_different_keys(one in ".{0,300}", other in ".{0,300}") {
            let (first, second) = (key(&asset(&["a"], Some(&one))), key(&asset(&["a"], Some(&other))));
            prop_assert_eq!(one == other, first == second);
        }

        #[test]
        fn keys_are_safe_as_paths(part in ".{1,400}", partition in ".{0,400}") {
            let key = key(&asset(&[&part], Some(&partition)));
            for name in key.split('/') {
                prop_assert!(!name.is_empty() && name.len() <= 200 && !name.starts_with('.'));
                prop_assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\'));
            }
        }
    }
}
