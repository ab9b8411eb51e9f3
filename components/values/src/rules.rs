//! Implements the contract's interface `io` over a value store.

use std::marker::PhantomData;

use dagster_ray_sdk::Error;
use dagster_ray_sdk::bindings::objects::Entry;

use crate::keys::Keys;
use crate::lifetime;
use crate::options::Options;
use crate::store::ValueStore;
use dagster_ray_sdk::bindings::io::{Address, IoContext, Selection, Stored};

/// The number of names that an error lists; it counts the others.
const LISTED: usize = 20;
const DEPLOYMENT: &str = "dagster-ray/deployment";
const RUN: &str = "dagster/run-id";
const STEP: &str = "dagster/step";
const OUTPUT: &str = "dagster/output";
const MAPPING: &str = "dagster/mapping-key";
const ASSET: &str = "dagster/asset";
const PARTITION: &str = "dagster/partition";

/// The values of one Dagster deployment in a store.
pub struct Values<P, V> {
    store: P,
    deployment: String,
    keys: Keys,
    options: Options,
    now: u64,
    value: PhantomData<V>,
}

impl<P: ValueStore<V>, V> Values<P, V> {
    /// Creates the access to a deployment's values in a store. `now` is the time in seconds since the Unix
    /// epoch.
    ///
    /// # Errors
    /// The options are invalid.
    pub fn new(store: P, context: &IoContext, now: u64) -> Result<Self, Error> {
        Ok(Self {
            store,
            deployment: context.deployment.clone(),
            keys: Keys::new(&context.deployment),
            options: Options::read(&context.options)?,
            now,
            value: PhantomData,
        })
    }

    /// Stores a value.
    ///
    /// # Errors
    /// The store rejects the value.
    pub fn save(&self, address: &Address, value: &V) -> Result<Stored, Error> {
        let expires_at = lifetime::expires_at(address, &self.options, self.now);
        let entry = self.store.put(
            &self.keys.output(address),
            value,
            self.options.overwrite,
            expires_at,
            &self.attributes(address),
        )?;
        Ok(stored(entry))
    }

    /// Loads a value.
    ///
    /// # Errors
    /// `not-found` if the store has no such value. The message lists the values that the store has.
    pub fn load(&self, address: &Address) -> Result<V, Error> {
        match self.store.get(&self.keys.output(address)) {
            Err(Error::NotFound(reason)) => Err(self.missing(&[address], &reason)),
            other => other,
        }
    }

    /// Loads the values of many partitions, each with the name of its partition.
    ///
    /// # Errors
    /// As [`Values::load`], with all missing partitions in one error.
    pub fn load_many(&self, addresses: &[Address]) -> Result<Vec<(String, V)>, Error> {
        let keys: Vec<_> = addresses.iter().map(|address| self.keys.output(address)).collect();
        let found = self.store.stat(&keys)?;
        let missing: Vec<_> = addresses
            .iter()
            .zip(&found)
            .filter(|(_, entry)| entry.is_none())
            .map(|(address, _)| address)
            .collect();
        if !missing.is_empty() && !self.options.allow_missing_partitions {
            return Err(self.missing(&missing, ""));
        }
        let present = addresses.iter().zip(&keys).zip(found).filter_map(|(pair, entry)| entry.map(|_| pair));
        let mut values = Vec::new();
        for (address, key) in present {
            match self.store.get(key) {
                Ok(value) => values.push((address.partition.clone().unwrap_or_default(), value)),
                Err(Error::NotFound(_)) if self.options.allow_missing_partitions => {}
                Err(Error::NotFound(reason)) => return Err(self.missing(&[address], &reason)),
                Err(error) => return Err(error),
            }
        }
        Ok(values)
    }

    /// Lists stored values.
    ///
    /// # Errors
    /// The store is unavailable.
    pub fn list(&self, selection: Selection) -> Result<Vec<Stored>, Error> {
        Ok(self.select(selection)?.into_iter().map(stored).collect())
    }

    /// Removes stored values, and returns how many were removed.
    ///
    /// # Errors
    /// The store is unavailable.
    pub fn delete(&self, selection: Selection) -> Result<u32, Error> {
        let keys = match selection {
            Selection::Keys(keys) => self.checked(keys)?,
            other => self.select(other)?.into_iter().map(|entry| entry.key).collect(),
        };
        if keys.is_empty() { Ok(0) } else { self.store.delete(&keys) }
    }

    fn select(&self, selection: Selection) -> Result<Vec<Entry>, Error> {
        match selection {
            Selection::Runs(runs) if runs.is_empty() => self.store.list(&self.keys.runs()),
            Selection::Runs(runs) => {
                let mut found = Vec::new();
                for run in runs {
                    found.extend(self.store.list(&self.keys.run(&run))?);
                }
                Ok(found)
            }
            Selection::Asset(parts) => self.store.list(&self.keys.asset(&parts)),
            Selection::Keys(keys) => {
                Ok(self.store.stat(&self.checked(keys)?)?.into_iter().flatten().collect())
            }
            Selection::Expired(known) => {
                let mut found = self.store.list(&self.keys.runs())?;
                found.retain(|entry| {
                    attribute(entry, RUN).is_some_and(|run| {
                        lifetime::is_expired(run, entry.stored_at, &known, &self.options, self.now)
                    })
                });
                Ok(found)
            }
        }
    }

    /// Returns the `not-found` error, which names the missing values and lists those that the store has.
    fn missing(&self, missing: &[&Address], reason: &str) -> Error {
        let Some(first) = missing.first() else { return Error::NotFound(reason.to_owned()) };
        let names: Vec<_> = missing.iter().map(|address| name(address)).collect();
        let keys: Vec<_> = missing.iter().map(|address| self.keys.output(address)).collect();
        let (prefix, owner, part) = match &first.asset {
            Some(parts) => (self.keys.asset(parts), "this asset", PARTITION),
            None => (self.keys.run(&first.run_id), "this run", STEP),
        };
        let stored: Vec<_> = match self.store.list(&prefix) {
            Ok(entries) => entries
                .iter()
                .map(|entry| match (attribute(entry, part), attribute(entry, OUTPUT)) {
                    (Some(step), Some(output)) if first.asset.is_none() => format!("{step}.{output}"),
                    (Some(partition), _) => partition.to_owned(),
                    _ => "the value without a partition".to_owned(),
                })
                .collect(),
            Err(error) => vec![format!("(unknown: {})", error.message())],
        };
        let stored = if stored.is_empty() {
            format!(
                "the store has no value of {owner}: none was stored here, it expired, or the store restarted"
            )
        } else {
            format!("the store has these values of {owner}: {}", listed(&stored))
        };
        let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
        Error::NotFound(format!(
            "no value is stored for {}, key {}{reason}; {stored}. Run the step that makes the value again",
            listed(&names),
            listed(&keys)
        ))
    }

    /// Returns the keys that the caller named, or an error if one belongs to another deployment.
    fn checked(&self, keys: Vec<String>) -> Result<Vec<String>, Error> {
        match keys.iter().find(|key| !self.keys.contains(key)) {
            None => Ok(keys),
            Some(other) => Err(Error::Conflict(format!(
                "key {other} does not belong to deployment {:?}; pass keys that `list` returns for it",
                self.deployment
            ))),
        }
    }

    fn attributes(&self, address: &Address) -> Vec<(String, String)> {
        let mut all = vec![
            (DEPLOYMENT.to_owned(), self.deployment.clone()),
            (RUN.to_owned(), address.run_id.clone()),
            (STEP.to_owned(), address.step_key.clone()),
            (OUTPUT.to_owned(), address.output_name.clone()),
        ];
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                all.push((name.to_owned(), value));
            }
        };
        add(MAPPING, address.mapping_key.clone());
        add(ASSET, address.asset.as_ref().map(|parts| parts.join("/")));
        add(PARTITION, address.partition.clone());
        all
    }
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn name(address: &Address) -> String {
    match (&address.asset, &address.partition) {
        (Some(asset), Some(partition)) => format!("asset {}, partition {partition}", asset.join("/")),
        (Some(asset), None) => format!("asset {}", asset.join("/")),
        (None, _) => {
            let mapping = address.mapping_key.as_ref().map(|key| format!("[{key}]")).unwrap_or_default();
            format!(
                "output {}{mapping} of step {} in run {}",
                address.output_name, address.step_key, address.run_id
            )
        }
    }
}

fn attribute<'a>(entry: &'a Entry, name: &str) -> Option<&'a str> {
    entry.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn stored(entry: Entry) -> Stored {
    let is_asset = attribute(&entry, ASSET).is_some();
    let run_id = attribute(&entry, RUN).filter(|_| !is_asset).map(str::to_owned);
    let mut metadata = vec![("key".to_owned(), entry.key.clone()), ("type".to_owned(), entry.info.type_name)];
    if let Some(node) = entry.node {
        metadata.push(("node".to_owned(), node));
    }
    if let Some(until) = entry.keep_until {
        metadata.push(("kept until".to_owned(), until.to_string()));
    }
    Stored { key: entry.key, run_id, metadata, size: entry.info.size, stored_at: entry.stored_at }
}

#[cfg(test)]
mod tests;
