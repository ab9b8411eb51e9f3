//! Backend-wide settings, as the host hands them over through `wasi:config/store`.

use std::collections::BTreeMap;

use crate::Error;

/// Where settings come from.
pub trait Settings {
    /// The value under a key, where there is one.
    fn get(&self, key: &str) -> Result<Option<String>, Error>;

    /// The value under a key that must be there.
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

    /// The value under a key, read as what it stands for, where there is one.
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

/// The host's settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct WasiSettings;

impl Settings for WasiSettings {
    fn get(&self, key: &str) -> Result<Option<String>, Error> {
        use crate::bindings::config_store;

        config_store::get(key).map_err(|error| {
            let (config_store::Error::Upstream(reason) | config_store::Error::Io(reason)) = error;
            Error::Other(format!("the host could not read its setting `{key}`: {reason}"))
        })
    }
}

impl Settings for BTreeMap<String, String> {
    fn get(&self, key: &str) -> Result<Option<String>, Error> {
        Ok(BTreeMap::get(self, key).cloned())
    }
}
