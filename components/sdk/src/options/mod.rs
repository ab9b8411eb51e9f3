//! Reads the options that users write, and reports every mistake at once with its path and a hint.
//!
//! A type of options reads its [`Fields`]. A key that it does not read is unknown, so keys are listed in
//! one place.
//!
//! ```
//! use dagster_ray_sdk::options::{Fields, read_merged};
//!
//! struct Options {
//!     image: Option<String>,
//!     gpus: f64,
//! }
//!
//! impl Options {
//!     fn read(fields: &mut Fields<'_>) -> Self {
//!         Self { image: fields.string("image"), gpus: fields.number("gpus").unwrap_or(0.0) }
//!     }
//! }
//!
//! let tags = vec![("dagster-ray/config".to_owned(), r#"{"gpus": 1}"#.to_owned())];
//! let options = read_merged(r#"{"image": "train:2"}"#, &tags, Options::read)?;
//! assert_eq!((options.image.as_deref(), options.gpus), (Some("train:2"), 1.0));
//!
//! let error = read_merged(r#"{"gpus": -1, "imag": ""}"#, &tags, Options::read).err().unwrap();
//! assert_eq!(
//!     error.message(),
//!     "the configuration is wrong: `gpus`: is -1, which is negative (write 0 or more); \
//!      `imag`: is not a known key (the known keys are image, gpus)",
//! );
//! # Ok::<(), dagster_ray_sdk::Error>(())
//! ```

mod fields;
mod reader;

pub use fields::Fields;
pub use reader::Reader;

use crate::{
    Error,
    json::{self, Map, Value, type_name},
    model::Attributes,
};

/// The tag of a run or an op that overrides the configuration, key by key. Its value is a JSON object.
pub const TAG: &str = "dagster-ray/config";

/// The option of runs and steps that is false if Dagster executes them without this backend. Every backend with
/// options reads it.
pub const ENABLED: &str = "enabled";

/// The path of a mistake in a document as a whole.
const DOCUMENT: &str = "options";
const HINT: &str = "write a JSON object, {} for no options";

/// Reads a document of options: a JSON object. Blank text and `null` mean no options.
///
/// # Errors
/// [`Error::InvalidConfig`] with every mistake.
pub fn read_document<T>(document: &str, read: impl FnOnce(&mut Fields<'_>) -> T) -> Result<T, Error> {
    let fields = object(document).map_err(|problem| Error::invalid(DOCUMENT, &problem, Some(HINT)))?;
    read_fields(&fields, "", read)
}

/// Reads a document of options that is the value of the configuration's field `path`. The paths of mistakes
/// begin with it.
///
/// # Errors
/// [`Error::InvalidConfig`] with every mistake.
pub fn read_field<T>(
    path: &str,
    document: &str,
    read: impl FnOnce(&mut Fields<'_>) -> T,
) -> Result<T, Error> {
    let fields = object(document).map_err(|problem| Error::invalid(path, &problem, Some(HINT)))?;
    read_fields(&fields, &format!("{path}."), read)
}

/// Reads the options of a run or a step: the configuration, overridden by the tag [`TAG`].
///
/// A key of the tag replaces the configured value. `null` in the tag restores the value that applies
/// without configuration. If the result sets [`ENABLED`] to false, the run or step does not use this backend:
/// its other options have their defaults, and their mistakes are ignored.
///
/// # Errors
/// [`Error::InvalidConfig`] with every mistake in both.
pub fn read_merged<T>(
    configuration: &str,
    tags: &Attributes,
    read: impl Fn(&mut Fields<'_>) -> T,
) -> Result<T, Error> {
    let mut reader = Reader::default();
    let mut merged = Map::new();
    let tag = tags.iter().find(|(name, _)| name == TAG).map(|(_, value)| (TAG, value.as_str()));
    for (name, text) in [(DOCUMENT, configuration)].into_iter().chain(tag) {
        let prefix = if name == TAG { format!("{TAG}.") } else { String::new() };
        reader.begin_document();
        match object(text) {
            Ok(fields) => {
                Fields::read_all(&fields, &prefix, &mut reader, &read);
                merged.extend(fields);
            }
            Err(problem) => reader.add_mistake(name, problem, HINT),
        }
    }
    if merged.get(ENABLED) == Some(&Value::Bool(false)) {
        merged.retain(|key, _| key == ENABLED);
    } else {
        reader.finish()?;
    }
    Ok(Fields::read_all(&merged, "", &mut Reader::default(), read))
}

/// Returns the keys that a type of options reads, in the order in which it reads them.
///
/// A test compares them with the keys of the schema.
pub fn keys<T>(read: impl FnOnce(&mut Fields<'_>) -> T) -> Vec<&'static str> {
    let mut reader = Reader::default();
    let empty = Map::new();
    let mut fields = Fields::new(&empty, "", &mut reader);
    read(&mut fields);
    fields.into_keys()
}

fn read_fields<T>(
    fields: &Map<String, Value>,
    prefix: &str,
    read: impl FnOnce(&mut Fields<'_>) -> T,
) -> Result<T, Error> {
    let mut reader = Reader::default();
    let options = Fields::read_all(fields, prefix, &mut reader, read);
    reader.finish().map(|()| options)
}

/// Parses a JSON object. Blank text and `null` mean an empty one. The error is a predicate, such as "is a
/// list, not an object".
fn object(text: &str) -> Result<Map<String, Value>, String> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match json::parse(text.as_bytes()) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(other) => Err(format!("is {}, not an object", type_name(&other))),
        Err(error) => Err(format!("is not JSON: {error}")),
    }
}

#[cfg(test)]
mod tests;
