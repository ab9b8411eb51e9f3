//! A key of a value, as arbitrary text: an accepted key is a path below the directory of the store.

use std::path::{Component, Path};

use dagster_ray_policy::capability::objects::{check_key, check_prefix};

use crate::text;

/// Checks the properties for one input. Panics if one is violated.
pub fn check(data: &[u8]) {
    let key = text(data);
    if let Err(problem) = check_prefix(key) {
        assert!(problem.starts_with("invalid prefix ") && !problem.contains(char::is_control), "{problem:?}");
        assert!(check_key(key).is_err(), "a key is a prefix of itself: {key:?}");
        return;
    }
    match check_key(key) {
        Err(problem) => {
            assert!(
                problem.starts_with("invalid key ") && !problem.contains(char::is_control),
                "{problem:?}"
            );
        }
        Ok(()) => {
            let path = Path::new("/store").join(key);
            let below: Vec<_> = path.components().skip(2).collect();
            assert!(path.starts_with("/store") && !below.is_empty(), "{key:?}");
            assert!(below.iter().all(|part| matches!(part, Component::Normal(_))), "{key:?}");
            // Two keys are never one file.
            let segments: Vec<_> = below.iter().map(|part| part.as_os_str().to_string_lossy()).collect();
            assert_eq!(segments.join("/"), key);
        }
    }
}
