//! Reading a user's options from JSON, with every mistake named by its path.

use std::collections::BTreeMap;

use dagster_ray_sdk::{
    Error,
    json::{self, Map, Value, kind},
    model::FieldError,
};

/// Collects the mistakes in one or more documents.
#[derive(Debug, Default)]
pub struct Reader {
    mistakes: Vec<FieldError>,
}

/// Parses a document that is an object. Nothing at all, and `null`, stand for one without keys.
///
/// # Errors
/// Where it is something else, as what follows its name in a message.
pub(crate) fn object(text: &str) -> Result<Map<String, Value>, String> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match json::parse(text.as_bytes()) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(other) => Err(format!("is {}, not an object", kind(&other))),
        Err(error) => Err(format!("is not JSON: {error}")),
    }
}

/// Reads a whole document of options.
///
/// # Errors
/// Where it is not an object, or there are mistakes in it.
pub fn document<T>(
    configuration: &str,
    read: impl FnOnce(&Map<String, Value>, &str, &mut Reader) -> T,
) -> Result<T, Error> {
    let fields = object(configuration)
        .map_err(|problem| Error::invalid("options", &problem, Some("write {} for none")))?;
    all(&fields, read)
}

/// Reads the fields of a document of options.
///
/// # Errors
/// Where there are mistakes in them: all of them are returned.
pub fn all<T>(
    fields: &Map<String, Value>,
    read: impl FnOnce(&Map<String, Value>, &str, &mut Reader) -> T,
) -> Result<T, Error> {
    let mut reader = Reader::default();
    let options = read(fields, "", &mut reader);
    reader.finish().map(|()| options)
}

impl Reader {
    /// Returns the mistakes that were found as an error.
    ///
    /// # Errors
    /// Where there are any.
    pub fn finish(self) -> Result<(), Error> {
        if self.mistakes.is_empty() { Ok(()) } else { Err(Error::InvalidConfig(self.mistakes)) }
    }

    /// Notes a mistake.
    pub fn wrong(&mut self, path: &str, problem: String, hint: &str) {
        self.mistakes.push(FieldError { path: path.to_owned(), problem, hint: Some(hint.to_owned()) });
    }

    /// Notes a key that there is not.
    pub fn unknown(&mut self, path: &str, known: &[&str]) {
        let hint = format!("the known keys are {}", known.join(", "));
        self.wrong(path, "is not a known key".to_owned(), &hint);
    }

    /// A boolean.
    pub fn flag(&mut self, path: &str, value: &Value) -> Option<bool> {
        if value.as_bool().is_none() {
            self.wrong(path, format!("is {}, not a boolean", kind(value)), "write true or false");
        }
        value.as_bool()
    }

    /// A string.
    pub fn text(&mut self, path: &str, value: &Value) -> Option<String> {
        if value.as_str().is_none() {
            let hint = format!("put it in quotes: \"{}\"", json::text(value).replace('"', "'"));
            self.wrong(path, format!("is {}, not a string", kind(value)), &hint);
        }
        value.as_str().map(str::to_owned)
    }

    /// A number that is not negative.
    pub fn quantity(&mut self, path: &str, value: &Value) -> Option<f64> {
        match value.as_f64() {
            Some(number) if number >= 0.0 => return Some(number),
            Some(_) => self.negative(path, value, "write 0 or more"),
            None => {
                self.wrong(path, format!("is {}, not a number", kind(value)), "write a number such as 0.5")
            }
        }
        None
    }

    /// A whole number that is not negative. The hint says what it counts.
    pub fn whole(&mut self, path: &str, value: &Value, hint: &str) -> Option<u64> {
        match value.as_f64() {
            _ if value.is_u64() => return value.as_u64(),
            Some(number) if number < 0.0 => self.negative(path, value, hint),
            _ => self.wrong(path, format!("is {}, not a whole number", json::text(value)), hint),
        }
        None
    }

    fn negative(&mut self, path: &str, value: &Value, hint: &str) {
        self.wrong(path, format!("is {}, which is negative", json::text(value)), hint);
    }

    /// A number of bytes.
    pub fn bytes(&mut self, path: &str, value: &Value) -> Option<u64> {
        self.whole(path, value, "write the number of bytes, such as 1073741824 for 1 GiB")
    }

    /// An object.
    pub fn object<'v>(&mut self, path: &str, value: &'v Value, hint: &str) -> Option<&'v Map<String, Value>> {
        let object = value.as_object();
        if object.is_none() {
            self.wrong(path, format!("is {}, not an object", kind(value)), hint);
        }
        object
    }

    /// Names with amounts.
    pub fn amounts(&mut self, path: &str, value: &Value) -> Map<String, Value> {
        let mut amounts = Map::new();
        let hint = "write names with amounts, such as {\"tpu\": 1}";
        for (name, amount) in self.object(path, value, hint).into_iter().flatten() {
            if let Some(amount) = self.quantity(&format!("{path}.{name}"), amount) {
                amounts.insert(name.clone(), amount.into());
            }
        }
        amounts
    }

    /// Names with strings.
    pub fn texts(&mut self, path: &str, value: &Value) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        for (name, value) in self.object(path, value, "write names with strings").into_iter().flatten() {
            if let Some(text) = self.text(&format!("{path}.{name}"), value) {
                texts.insert(name.clone(), text);
            }
        }
        texts
    }
}
