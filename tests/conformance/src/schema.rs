//! What a component publishes of its options, and values that break it.

use boon::{Compiler, Draft, SchemaIndex, Schemas, UrlLoader};
use serde_json::{Map, Value as Json, json};

/// A key that no backend has.
pub(crate) const UNKNOWN: &str = "no_backend_has_this_key";

/// The name of the schema among those that are compiled together.
const NAME: &str = "urn:options";

/// The JSON schema of one interface's options.
pub(crate) struct Schema {
    document: Json,
    schemas: Schemas,
    index: SchemaIndex,
}

/// A component's schema must not make this program read files or ask servers.
struct NoLoader;

impl UrlLoader for NoLoader {
    fn load(&self, url: &str) -> Result<Json, Box<dyn std::error::Error>> {
        Err(format!("the schema refers to {url}; write what it means under $defs instead").into())
    }
}

impl Schema {
    /// Reads a schema, of the draft that it names, or of 2020-12.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let document: Json =
            serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
        let invalid = |error: boon::CompileError| format!("it is no JSON Schema: {error:#}");
        let mut schemas = Schemas::new();
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        compiler.use_loader(Box::new(NoLoader));
        compiler.add_resource(NAME, document.clone()).map_err(invalid)?;
        let index = compiler.compile(NAME, &mut schemas).map_err(invalid)?;
        Ok(Self { document, schemas, index })
    }

    pub(crate) fn accepts(&self, options: &Map<String, Json>) -> bool {
        self.schemas.validate(&Json::Object(options.clone()), self.index).is_ok()
    }

    /// The keys that must be there.
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

    /// For each property, a value that the schema refuses.
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

    /// The properties that take a number, `0` among them.
    pub(crate) fn numbers(&self, options: &Map<String, Json>) -> Vec<String> {
        let takes = |key: &&String, value: Json| self.accepts(&with(options, key, &value));
        self.properties()
            .filter(|key| takes(key, json!(0)) && takes(key, json!(7)) && !takes(key, json!("7")))
            .cloned()
            .collect()
    }
}

/// Options with one more key.
pub(crate) fn with(options: &Map<String, Json>, key: &str, value: &Json) -> Map<String, Json> {
    let mut options = options.clone();
    options.insert(key.to_owned(), value.clone());
    options
}
