//! Credentials that the host adds to requests. Components never see them.

use std::path::PathBuf;

use dagster_ray_policy::Authority;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use crate::audit;

/// Adds the credentials of an authority to the headers of a request.
pub(super) fn add(authority: &Authority, headers: &mut HeaderMap) {
    let origin = authority.origin.to_string();
    for (name, value) in &authority.headers {
        headers.insert(name, value.clone());
        audit::credential(&origin, name.as_str());
    }
    if authority.ray_token
        && !headers.contains_key(AUTHORIZATION)
        && let Some(token) = ray_token()
        && let Ok(mut value) = HeaderValue::try_from(format!("Bearer {token}"))
    {
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        audit::credential(&origin, "Ray's authentication token");
    }
}

/// Returns the values of the credentials for an authority.
pub(super) fn values(authority: &Authority) -> Vec<String> {
    let mut values: Vec<String> =
        authority.headers.iter().filter_map(|(_, value)| value.to_str().ok().map(str::to_owned)).collect();
    values.extend(authority.ray_token.then(ray_token).flatten());
    values
}

/// Returns Ray's authentication token, from the same sources and in the same order as Ray's client:
/// `RAY_AUTH_TOKEN`, the file that `RAY_AUTH_TOKEN_PATH` names, `~/.ray/auth_token`.
///
/// The token is read for each request, because a local head writes it when it starts.
fn ray_token() -> Option<String> {
    if std::env::var("RAY_AUTH_MODE").is_ok_and(|mode| mode.eq_ignore_ascii_case("disabled")) {
        return None;
    }
    let written = |token: String| Some(token.trim().to_owned()).filter(|token| !token.is_empty());
    if let Some(token) = std::env::var("RAY_AUTH_TOKEN").ok().and_then(written) {
        return Some(token);
    }
    let path = std::env::var_os("RAY_AUTH_TOKEN_PATH").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME")?;
        Some(PathBuf::from(home).join(".ray").join("auth_token"))
    })?;
    std::fs::read_to_string(path).ok().and_then(written)
}
