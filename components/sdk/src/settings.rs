//! Settings of the whole backend, read from the host through `wasi:config/store`.

use std::collections::BTreeMap;

use crate::Error;

/// A source of settings.
pub trait Settings {
    /// Returns the value of a setting, or `None` if it is not set.
    fn get(&self, key: &str) -> Result<Option<String>, Error>;

    /// Returns the value of a required setting. A missing or blank value is an `invalid-config` error.
    fn required(&self, key: &str) -> Result<String, Error> {
        match self.get(key)? {
            Some(value) if !value.trim().is_empty() => Ok(value),
            found => Err(Error::invalid(
                key,
                if found.is_some() { "is empty" } else { "is missing" },
                Some(&format!("set `{key}` in the configuration of the backend")),
            )),
        }
    }

    /// Parses the value of a setting. `expected` describes a valid value in the error.
    fn parsed<T: std::str::FromStr>(&self, key: &str, expected: &str) -> Result<Option<T>, Error>
    where
        Self: Sized,
    {
        let Some(text) = self.get(key)? else { return Ok(None) };
        text.trim().parse().map(Some).map_err(|_| {
            Error::invalid(key, &format!("`{text}` is not {expected}"), Some(&format!("write {expected}")))
        })
    }
}

/// The settings of `wasi:config/store`.
#[derive(Clone, Copy, Debug, Default)]
pub struct WasiSettings;

impl Settings for WasiSettings {
    fn get(&self, key: &str) -> Result<Option<String>, Error> {
        use crate::bindings::config_store;

        config_store::get(key).map_err(|error| {
            let (config_store::Error::Upstream(reason) | config_store::Error::Io(reason)) = error;
            Error::Other(format!("the host could not read the setting `{key}`: {reason}"))
        })
    }
}

impl Settings for BTreeMap<String, String> {
    fn get(&self, key: &str) -> Result<Option<String>, Error> {
        Ok(BTreeMap::get(self, key).cloned())
    }
}
