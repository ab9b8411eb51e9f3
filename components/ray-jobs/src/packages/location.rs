//! The local paths in a runtime environment.

use dagster_ray_sdk::json::Value;

/// Returns whether a `working_dir` or a `py_modules` entry names a path on this machine, not a URI.
///
/// As in Ray (`_private/runtime_env/packaging.py`, `parse_uri`), a text without a scheme is a path.
#[must_use]
pub fn is_local_path(location: &str) -> bool {
    location.split_once(':').is_none_or(|(scheme, _)| !is_scheme(scheme))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// Returns the local paths that a runtime environment names, each with its field.
pub fn local_paths(env: &Value) -> impl Iterator<Item = (&'static str, &str)> {
    let modules = env.get("py_modules").and_then(Value::as_array).into_iter().flatten();
    let working_dir = env.get("working_dir").into_iter().map(|location| ("working_dir", location));
    working_dir
        .chain(modules.map(|location| ("py_modules", location)))
        .filter_map(|(field, location)| Some((field, location.as_str()?)))
        .filter(|(_, location)| !location.is_empty() && is_local_path(location))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_texts_without_a_scheme_are_local_paths() {
        let env = json!({
            "working_dir": "/srv/code",
            "py_modules": ["modules/a", "gcs://_ray_pkg.zip", "s3:bucket/a.zip", "", 1, "./b:c"],
        });
        let found: Vec<_> = local_paths(&env).collect();
        assert_eq!(
            found,
            [("working_dir", "/srv/code"), ("py_modules", "modules/a"), ("py_modules", "./b:c")]
        );
    }
}
