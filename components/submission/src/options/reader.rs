//! Reads options from JSON and reports every mistake with its path.

use std::collections::BTreeMap;

use dagster_ray_sdk::{
    Error,
    json::{self, Map, Value, type_name},
    model::FieldError,
};

/// Collects the mistakes in one or more documents.
#[derive(Debug, Default)]
pub struct Reader {
    mistakes: Vec<FieldError>,
}

/// Parses a JSON object. A blank text and `null` yield an empty object.
///
/// # Errors
/// A predicate such as "is a list, not an object", to append to the document's name in a message.
pub(crate) fn parse_object(text: &str) -> Result<Map<String, Value>, String> {
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

/// Reads a JSON document of options.
///
/// # Errors
/// [`Error::InvalidConfig`] if it is not an object, or with every mistake in it.
pub fn read_document<T>(
    configuration: &str,
    read: impl FnOnce(&Map<String, Value>, &str, &mut Reader) -> T,
) -> Result<T, Error> {
    let fields = parse_object(configuration).map_err(|problem| {
        Error::invalid("options", &problem, Some("write a JSON object, {} for no options"))
    })?;
    read_fields(&fields, read)
}

/// Reads the fields of a document of options.
///
/// # Errors
/// [`Error::InvalidConfig`] with every mistake.
pub fn read_fields<T>(
    fields: &Map<String, Value>,
    read: impl FnOnce(&Map<String, Value>, &str, &mut Reader) -> T,
) -> Result<T, Error> {
    let mut reader = Reader::default();
    let options = read(fields, "", &mut reader);
    reader.finish().map(|()| options)
}

impl Reader {
    /// Returns the collected mistakes as an error.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if there are any mistakes.
    pub fn finish(self) -> Result<(), Error> {
        if self.mistakes.is_empty() { Ok(()) } else { Err(Error::InvalidConfig(self.mistakes)) }
    }

    /// Adds a mistake.
    pub fn add_mistake(&mut self, path: &str, problem: String, hint: &str) {
        self.mistakes.push(FieldError { path: path.to_owned(), problem, hint: Some(hint.to_owned()) });
    }

    /// Adds a mistake for an unknown key.
    pub fn unknown_key(&mut self, path: &str, known: &[&str]) {
        let hint = format!("the known keys are {}", known.join(", "));
        self.add_mistake(path, "is not a known key".to_owned(), &hint);
    }

    /// Reads a boolean.
    pub fn boolean(&mut self, path: &str, value: &Value) -> Option<bool> {
        if value.as_bool().is_none() {
            self.add_mistake(path, format!("is {}, not a boolean", type_name(value)), "write true or false");
        }
        value.as_bool()
    }

    /// Reads a string.
    pub fn string(&mut self, path: &str, value: &Value) -> Option<String> {
        if value.as_str().is_none() {
            let hint = format!("put it in quotes: \"{}\"", json::text(value).replace('"', "'"));
            self.add_mistake(path, format!("is {}, not a string", type_name(value)), &hint);
        }
        value.as_str().map(str::to_owned)
    }

    /// Reads a number that is not negative.
    pub fn number(&mut self, path: &str, value: &Value) -> Option<f64> {
        match value.as_f64() {
            Some(number) if number >= 0.0 => return Some(number),
            Some(_) => self.add_negative(path, value, "write 0 or more"),
            None => self.add_mistake(
                path,
                format!("is {}, not a number", type_name(value)),
                "write a number such as 0.5",
            ),
        }
        None
    }

    /// Reads an integer that is not negative. `hint` says what it counts.
    pub fn integer(&mut self, path: &str, value: &Value, hint: &str) -> Option<u64> {
        match value.as_f64() {
            _ if value.is_u64() => return value.as_u64(),
            Some(number) if number < 0.0 => self.add_negative(path, value, hint),
            _ => self.add_mistake(path, format!("is {}, not a whole number", json::text(value)), hint),
        }
        None
    }

    fn add_negative(&mut self, path: &str, value: &Value, hint: &str) {
        self.add_mistake(path, format!("is {}, which is negative", json::text(value)), hint);
    }

    /// Reads a number of bytes.
    pub fn bytes(&mut self, path: &str, value: &Value) -> Option<u64> {
        self.integer(path, value, "write the number of bytes, such as 1073741824 for 1 GiB")
    }

    /// Reads an object.
    pub fn object<'v>(&mut self, path: &str, value: &'v Value, hint: &str) -> Option<&'v Map<String, Value>> {
        let object = value.as_object();
        if object.is_none() {
            self.add_mistake(path, format!("is {}, not an object", type_name(value)), hint);
        }
        object
    }

    /// Reads an object of amounts by name.
    pub fn numbers(&mut self, path: &str, value: &Value) -> Map<String, Value> {
        let mut numbers = Map::new();
        let hint = "write an object of amounts by name, such as {\"tpu\": 1}";
        for (name, amount) in self.object(path, value, hint).into_iter().flatten() {
            if let Some(amount) = self.number(&format!("{path}.{name}"), amount) {
                numbers.insert(name.clone(), amount.into());
            }
        }
        numbers
    }

    /// Reads an object of strings by name.
    pub fn strings(&mut self, path: &str, value: &Value) -> BTreeMap<String, String> {
        let mut strings = BTreeMap::new();
        for (name, value) in self.object(path, value, "write an object of strings").into_iter().flatten() {
            if let Some(text) = self.string(&format!("{path}.{name}"), value) {
                strings.insert(name.clone(), text);
            }
        }
        strings
    }
}
