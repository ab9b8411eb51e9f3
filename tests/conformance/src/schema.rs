//! The options schemas of a component, and values that violate them.

use boon::{Compiler, Draft, SchemaIndex, Schemas, UrlLoader};
use serde_json::{Map, Value as Json, json};

/// An option that no backend has.
pub(crate) const UNKNOWN: &str = "no_backend_has_this_key";

/// The name under which the schema is compiled.
const NAME: &str = "urn:options";

/// The JSON schema of one interface's options.
pub(crate) struct Schema {
    document: Json,
    schemas: Schemas,
    index: SchemaIndex,
}

/// Rejects every reference to another document: a component's schema must not cause reads of files or
/// requests.
struct RejectExternal;

impl UrlLoader for RejectExternal {
    fn load(&self, url: &str) -> Result<Json, Box<dyn std::error::Error>> {
        Err(format!("the schema refers to {url}, which is not loaded; write the definition under $defs")
            .into())
    }
}

impl Schema {
    /// Parses a schema. The draft is 2020-12 unless the schema names another one.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let document: Json = serde_json::from_str(text).map_err(|error| format!("invalid JSON: {error}"))?;
        let invalid = |error: boon::CompileError| format!("invalid JSON Schema: {error:#}");
        let mut schemas = Schemas::new();
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        compiler.use_loader(Box::new(RejectExternal));
        compiler.add_resource(NAME, document.clone()).map_err(invalid)?;
        let index = compiler.compile(NAME, &mut schemas).map_err(invalid)?;
        Ok(Self { document, schemas, index })
    }

    pub(crate) fn accepts(&self, options: &Map<String, Json>) -> bool {
        self.schemas.validate(&Json::Object(options.clone()), self.index).is_ok()
    }

    /// Returns the required keys.
    pub(crate) fn required(&self) -> Vec<&str> {
        let required = self.document.get("required").and_then(Json::as_array);
        required.into_iter().flatten().filter_map(Json::as_str).collect()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.document.get("properties").is_some_and(|properties| properties.get(key).is_some())
    }

    fn properties(&self) -> impl Iterator<Item = &String> {
        self.document.get("properties").and_then(Json::as_object).into_iter().flat_map(Map::keys)
    }

    /// Returns one invalid value for each property that has one.
    pub(crate) fn mistakes(&self, options: &Map<String, Json>) -> Vec<(String, Json)> {
        let candidates =
            [json!("no such thing"), json!([[]]), json!({"no": {"such": []}}), json!(-1.5), json!(true)];
        self.properties()
            .filter_map(|key| {
                let wrong = candidates.iter().find(|value| !self.accepts(&with(options, key, value)))?;
                Some((key.clone(), wrong.clone()))
            })
            .collect()
    }

    /// Returns the properties that accept numbers, including 0, and no text.
    pub(crate) fn numbers(&self, options: &Map<String, Json>) -> Vec<String> {
        let takes = |key: &&String, value: Json| self.accepts(&with(options, key, &value));
        self.properties()
            .filter(|key| takes(key, json!(0)) && takes(key, json!(7)) && !takes(key, json!("7")))
            .cloned()
            .collect()
    }
}

/// Returns the options with one more key.
pub(crate) fn with(options: &Map<String, Json>, key: &str, value: &Json) -> Map<String, Json> {
    let mut options = options.clone();
    options.insert(key.to_owned(), value.clone());
    options
}
