//! Label selectors in Kubernetes' syntax. The simulation supports the equality-based ones.

use std::collections::BTreeMap;

use dagster_ray_sdk::Error;

/// A condition on one label.
pub(crate) struct Requirement<'a> {
    key: &'a str,
    value: &'a str,
    /// Whether the label must have the value. Otherwise it must not have the value.
    equal: bool,
}

impl<'a> Requirement<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (key, value) = text.split_once('=')?;
        let (key, equal) = key.strip_suffix('!').map_or((key, true), |key| (key, false));
        let (key, value) = (key.trim(), value.strip_prefix('=').unwrap_or(value).trim());
        (!key.is_empty()).then_some(Self { key, value, equal })
    }

    /// Returns whether labels meet the requirement.
    pub(crate) fn is_met(&self, labels: &BTreeMap<String, String>) -> bool {
        (labels.get(self.key).map(String::as_str) == Some(self.value)) == self.equal
    }
}

/// Parses a selector such as `a=b,c!=d`.
///
/// # Errors
/// [`Error::Unsupported`] if a requirement has another form, such as `a in (b, c)`.
pub(crate) fn requirements(selector: &str) -> Result<Vec<Requirement<'_>>, Error> {
    let parts = selector.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            Requirement::read(part).ok_or_else(|| {
                Error::Unsupported(format!(
                    "the simulation supports only label selectors such as `a=b,c!=d`, not {selector:?}"
                ))
            })
        })
        .collect()
}
