//! Just enough of URLs.

use crate::Error;

/// The parts of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// Whether it is `https`.
    pub tls: bool,
    /// Host and port.
    pub authority: &'a str,
    /// Path and query, or nothing.
    pub path: &'a str,
}

/// Takes an `http://` or `https://` URL apart. `path` names the setting it came from.
pub fn split<'a>(url: &'a str, setting: &str) -> Result<Parts<'a>, Error> {
    let hint = Some("write http://host:port or https://host:port");
    let wrong = |problem: &str| Error::invalid(setting, &format!("`{url}` {problem}"), hint);

    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(wrong("has no scheme"));
    };
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        other => return Err(wrong(&format!("has the scheme `{other}`, not http or https"))),
    };
    let (authority, path) = match rest.find(['/', '?', '#']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    if authority.is_empty() {
        return Err(wrong("names no host"));
    }
    if authority.contains('@') {
        return Err(wrong("carries a user name or a password, which belong into the headers"));
    }
    if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(wrong("contains white space"));
    }
    Ok(Parts { tls, authority, path })
}

/// Percent-encodes a value for one segment of a path, or for a value in a query.
#[must_use]
pub fn encode(value: &str) -> String {
    use std::fmt::Write as _;

    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_addresses_are_told_apart() {
        for (url, part) in [
            ("localhost:8265", "no scheme"),
            ("ray://head:10001", "`ray`"),
            ("http://", "no host"),
            ("http://user:secret@head:8265", "user name"),
            ("http://head :8265", "white space"),
        ] {
            let error = split(url, "address").unwrap_err().text();
            assert!(error.contains(part) && error.contains("address"), "{url}: {error}");
        }
        let parts = split("https://head:8265/prefix/a?b=c", "address").unwrap();
        assert_eq!(parts, Parts { tls: true, authority: "head:8265", path: "/prefix/a?b=c" });
    }

    #[test]
    fn an_id_cannot_leave_its_segment() {
        assert_eq!(encode("../a b/ü?#%"), "..%2Fa%20b%2F%C3%BC%3F%23%25");
    }
}
