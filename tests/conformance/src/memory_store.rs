//! A value store in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use dagster_ray_runtime::capability::objects::{Entry, ObjectStore, Value, ValueInfo};
use dagster_ray_runtime::model::Error;

use crate::specs::SECRET;

/// An [`ObjectStore`] that keeps its values in memory.
#[derive(Default)]
pub(crate) struct MemoryStore(Mutex<BTreeMap<String, (Entry, Value)>>);

/// Returns a value with this text and a planted secret as its content.
///
/// A component cannot read the content of a value, but the name of its type. So that name has the secret, too.
pub(crate) fn value(text: &str) -> Value {
    let content = format!("{SECRET} {text}");
    Value {
        info: ValueInfo { type_name: SECRET.to_owned(), size: Some(content.len() as u64) },
        content: Arc::new(content),
    }
}

/// Returns the text of a value made by [`value`].
pub(crate) fn text(value: &Value) -> Option<String> {
    value.content.downcast_ref::<String>()?.strip_prefix(SECRET)?.strip_prefix(' ').map(str::to_owned)
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl MemoryStore {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, (Entry, Value)>> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now();
        entries.retain(|_, (entry, _)| entry.keep_until.is_none_or(|until| until > now));
        entries
    }

    pub(crate) fn clear(&self) {
        self.entries().clear();
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.entries().keys().cloned().collect()
    }
}

impl ObjectStore for MemoryStore {
    fn put(
        &self,
        key: &str,
        value: &Value,
        overwrite: bool,
        keep_until: Option<u64>,
        attributes: &[(String, String)],
    ) -> Result<Entry, Error> {
        let mut entries = self.entries();
        if !overwrite && entries.contains_key(key) {
            return Err(Error::Conflict(format!("{key} exists already")));
        }
        let entry = Entry {
            key: key.to_owned(),
            info: value.info.clone(),
            stored_at: now(),
            keep_until,
            node: None,
            attributes: attributes.to_vec(),
        };
        entries.insert(key.to_owned(), (entry.clone(), value.clone()));
        Ok(entry)
    }

    fn get(&self, key: &str) -> Result<Value, Error> {
        let found = self.entries().get(key).map(|(_, value)| value.clone());
        found.ok_or_else(|| Error::NotFound(format!("{key} does not exist")))
    }

    fn stat(&self, keys: &[String]) -> Result<Vec<Option<Entry>>, Error> {
        let entries = self.entries();
        Ok(keys.iter().map(|key| entries.get(key).map(|(entry, _)| entry.clone())).collect())
    }

    fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error> {
        let entries = self.entries();
        let found = entries.iter().filter(|(key, _)| key.starts_with(prefix));
        Ok(found.map(|(_, (entry, _))| entry.clone()).collect())
    }

    fn delete(&self, keys: &[String]) -> Result<u32, Error> {
        let mut entries = self.entries();
        let removed = keys.iter().filter(|key| entries.remove(*key).is_some()).count();
        Ok(u32::try_from(removed).unwrap_or(u32::MAX))
    }
}
