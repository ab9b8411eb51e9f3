//! Validates the address of the cluster, which must be the URL of its dashboard.

use dagster_ray_jobs::DASHBOARD_PORT;
use dagster_ray_sdk::Error;

/// The name of the setting.
pub(crate) const SETTING: &str = "address";

/// Returns the address if it is an http or https URL. The error for any other form says what to write.
///
/// Ray's Python client resolves other forms of address over gRPC, which a component cannot use.
pub(crate) fn dashboard(address: &str) -> Result<&str, Error> {
    let address = address.trim();
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None => (String::new(), address),
    };
    let problem = match scheme.as_str() {
        "http" | "https" => return Ok(address),
        "" if address == "auto" => "`auto` is not a URL".to_owned(),
        "" => format!("`{address}` has no scheme"),
        "ray" => format!("`{address}` is an address of Ray Client, which accepts no jobs"),
        other => format!("`{address}` has the scheme `{other}`"),
    };
    Err(Error::invalid(
        SETTING,
        &format!("{problem}; jobs are submitted to the http:// or https:// URL of the dashboard"),
        Some(&format!("write http://{}:{DASHBOARD_PORT}, or another port of the dashboard", host(rest))),
    ))
}

/// Returns the host of an address without its scheme, or a placeholder.
fn host(rest: &str) -> &str {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let host = match authority.rfind(']') {
        Some(end) => &authority[..=end],
        None => authority.split(':').next().unwrap_or_default(),
    };
    if host.is_empty() || host == "auto" { "<head>" } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_forms_of_address_are_rejected_with_the_url_to_write() {
        for (address, write) in [
            ("ray://head:10001", "http://head:8265"),
            ("head:6379", "http://head:8265"),
            ("ray://[::1]:10001/x", "http://[::1]:8265"),
            ("auto", "http://<head>:8265"),
            ("ftp://head", "http://head:8265"),
        ] {
            match dashboard(address) {
                Err(Error::InvalidConfig(fields)) => {
                    assert_eq!(fields[0].path, "address");
                    assert!(fields[0].problem.contains(address), "{:?}", fields[0]);
                    assert!(
                        fields[0].hint.as_ref().is_some_and(|hint| hint.contains(write)),
                        "{:?}",
                        fields[0]
                    );
                }
                other => panic!("{address}: {other:?}"),
            }
        }
        assert_eq!(dashboard(" HTTPS://head/ray ").expect("a URL"), "HTTPS://head/ray");
    }
}
