//! The address of the cluster: its dashboard's URL, and no other of Ray's forms.

use dagster_ray_sdk::Error;

/// The setting with the address.
pub(crate) const SETTING: &str = "address";

/// Ray's own port for its dashboard.
const DASHBOARD_PORT: u16 = 8265;

/// Takes a dashboard's URL, and tells what to write instead of anything else.
///
/// Ray's Python turns its other forms into this one by asking the cluster over gRPC, which a
/// component cannot.
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
        "ray" => format!("`{address}` is an address for Ray Client, which takes no jobs"),
        other => format!("`{address}` has the scheme `{other}`"),
    };
    Err(Error::invalid(
        SETTING,
        &format!("{problem}; jobs are submitted to the dashboard, by its http:// or https:// URL"),
        Some(&format!("write http://{}:{DASHBOARD_PORT}, with the port of the dashboard", host(rest))),
    ))
}

/// The host of what follows a scheme, or a placeholder.
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
    fn each_of_rays_other_forms_is_answered_with_what_to_write() {
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
