//! The grant `objects`: value stores: `ray` for Ray's object store, `directory` for the directory that the
//! configuration names.
//!
//! ```toml
//! [grants]
//! objects = ["ray"]
//! ```

use super::{Capability, Entry, Grants, no_problem, restrict_list};

/// The grant `objects`: names of stores.
pub type Grant = Vec<String>;

/// Values in stores of the configuration.
pub static CAPABILITY: Capability = Capability {
    name: "objects",
    example: "objects = [\"<store>\"]",
    interfaces: &["dagster-ray:host/objects"],
    entries: |grants| Entry::list("objects", &grants.objects).into_iter().collect(),
    is_granted: |grants| !grants.objects.is_empty(),
    problem: no_problem,
    restrict,
};

/// Returns the line of a manifest that would allow a store.
pub fn missing_grant(store: &str) -> String {
    format!("objects = [{store:?}]")
}

/// Maximum length of a key, in bytes.
const MAX_KEY_BYTES: usize = 1_024;

/// Checks a key of a value. A store may use it as a relative path, so it must not leave the store.
///
/// # Errors
///
/// The text says what is wrong with the key and what a key looks like.
pub fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() {
        return Err(invalid("key", key, "it is empty"));
    }
    check("key", key, key.split('/'))
}

/// Checks a prefix of keys. It may be empty, and may end within a segment or after one.
///
/// # Errors
///
/// As [`check_key`].
pub fn check_prefix(prefix: &str) -> Result<(), String> {
    check(
        "prefix",
        prefix,
        prefix.strip_suffix('/').unwrap_or(prefix).split('/').filter(|_| !prefix.is_empty()),
    )
}

fn check<'a>(what: &str, key: &str, mut segments: impl Iterator<Item = &'a str>) -> Result<(), String> {
    if key.len() > MAX_KEY_BYTES {
        return Err(invalid(
            what,
            "",
            &format!("it has {} bytes; at most {MAX_KEY_BYTES} are allowed", key.len()),
        ));
    }
    if key.contains('\\') || key.chars().any(char::is_control) {
        return Err(invalid(what, key, "it contains a backslash or a control character"));
    }
    if segments.any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(invalid(what, key, "a segment is empty, `.` or `..`"));
    }
    Ok(())
}

fn invalid(what: &str, key: &str, problem: &str) -> String {
    format!("invalid {what} {key:?}: {problem}. Write segments separated by `/`, such as `run/1/result`")
}

fn restrict(grants: &mut Grants, by: &Grants) -> Vec<String> {
    restrict_list("objects", &mut grants.objects, &by.objects, |store| format!("{store:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_below_the_store() {
        for key in ["a", "run/1/result", "asset/a/=", "asset/..b/c..", "a%2F..%2Fb", "ä/ö"] {
            assert_eq!(check_key(key), Ok(()), "{key}");
        }
        let long = "a".repeat(1_025);
        for key in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../a",
            "a/../../b",
            "a/..",
            ".",
            "a/./b",
            "a//b",
            "a/",
            "a\\..\\b",
            "a\0b",
            "a\nb",
            &long,
        ] {
            assert!(check_key(key).is_err(), "{key:?}");
        }
    }

    #[test]
    fn prefixes_may_be_empty_and_end_anywhere() {
        for prefix in ["", "a", "a/", "run/1/", "run/1/re"] {
            assert_eq!(check_prefix(prefix), Ok(()), "{prefix}");
        }
        for prefix in ["/", "/etc", "..", "../", "a/../", "a/..", "a//", "a\\"] {
            assert!(check_prefix(prefix).is_err(), "{prefix:?}");
        }
    }
}
