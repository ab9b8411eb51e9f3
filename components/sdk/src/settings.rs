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

    /// Returns the value of a setting that is a number of seconds, as milliseconds. `default` and `limit` are
    /// in seconds; the value must be below the limit.
    fn milliseconds(&self, key: &str, default: f64, limit: f64) -> Result<u64, Error>
    where
        Self: Sized,
    {
        let seconds = self.parsed::<f64>(key, "a number of seconds")?.unwrap_or(default);
        if !(0.0..limit).contains(&seconds) {
            let hint = format!("write a number of seconds from 0 to less than {limit}");
            return Err(Error::invalid(key, &format!("is {seconds}"), Some(&hint)));
        }
        Ok((seconds * 1_000.0) as u64)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_read_as_milliseconds_within_their_limit() {
        let read = |text: &str| {
            let settings = BTreeMap::from([("grace".to_owned(), text.to_owned())]);
            settings.milliseconds("grace", 10.0, 60.0).map_err(|error| error.message())
        };
        assert_eq!(read("0.5"), Ok(500));
        assert_eq!(BTreeMap::new().milliseconds("grace", 10.0, 60.0), Ok(10_000));
        for wrong in ["-1", "60", "NaN", "inf", "ten"] {
            let text = read(wrong).unwrap_err();
            assert!(text.contains("`grace`") && text.contains("number of seconds"), "{text}");
        }
    }
}
