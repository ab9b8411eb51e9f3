use dagster_ray_sdk::{model::FieldError, options::keys, testing::assert_generated};

use super::*;

fn merged(configuration: &str, tag: Option<&str>) -> Result<Options, Error> {
    let tags = tag.map(|tag| (TAG.to_owned(), tag.to_owned())).into_iter().collect();
    Options::merged(configuration, &tags)
}

fn mistakes(configuration: &str, tag: Option<&str>) -> Vec<FieldError> {
    match merged(configuration, tag) {
        Err(Error::InvalidConfig(mistakes)) => mistakes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_tag_overrides_the_configuration_field_by_field_also_with_zero_and_null() {
    let options = merged(
        r#"{"num_cpus": 2, "num_gpus": 1, "memory": 100, "env_vars": ["A=1"], "resources": {"x": 1}}"#,
        Some(r#"{"num_gpus": 0, "memory": null, "env_vars": [], "resources": {"y": 0.5}}"#),
    )
    .expect("options");
    assert_eq!(options.num_cpus, Some(2.0));
    assert_eq!(options.num_gpus, Some(0.0));
    assert_eq!(options.memory, None);
    assert!(options.env_vars.is_empty());
    assert_eq!(options.resources.map(Value::from), Some(serde_json::json!({"y": 0.5})));
}

#[test]
fn a_negative_number_is_reported_with_its_path_and_a_hint() {
    let found =
        mistakes(r#"{"num_cpus": -1, "memory": -5, "resources": {"x": -2}}"#, Some(r#"{"num_gpus": -1}"#));
    let paths: Vec<&str> = found.iter().map(|field| field.path.as_str()).collect();
    assert_eq!(paths, ["memory", "num_cpus", "resources.x", "dagster-ray/config.num_gpus"]);
    assert!(found.iter().all(|field| field.problem.contains("negative") && field.hint.is_some()));
}

#[test]
fn the_hint_for_an_unknown_key_lists_the_known_keys() {
    let found = mistakes(r#"{"cpus": null}"#, None);
    assert_eq!(found[0].path, "cpus");
    let hint = found[0].hint.clone().expect("a hint");
    assert!(keys(Options::read).iter().all(|key| hint.contains(key)));
}

#[test]
fn a_tag_that_is_not_a_json_object_is_reported_with_a_hint() {
    for tag in ["num_cpus: 1", "[1]", "3"] {
        let found = mistakes("{}", Some(tag));
        assert_eq!(found[0].path, TAG);
        assert!(found[0].hint.as_ref().is_some_and(|hint| hint.contains("JSON object")));
    }
}

#[test]
fn invalid_environment_variables_are_reported_without_their_values() {
    // The Python adapter adds the values of names without one, and leaves other entries to the component.
    let document = r#"{"runtime_env": {"env_vars": {"PORT": 80}}, "env_vars": ["A=1", "=hunter2", 80]}"#;
    let found = mistakes(document, None);
    let paths: Vec<&str> = found.iter().map(|field| field.path.as_str()).collect();
    assert_eq!(paths, ["env_vars[1]", "env_vars[2]", "runtime_env.env_vars.PORT"]);
    assert!(found.iter().all(|field| !field.problem.contains("hunter2")));
    assert_eq!(found[2].hint.as_deref(), Some("put it in quotes: \"80\""));
    // A host may pass names without a value.
    assert_eq!(mistakes(r#"{"env_vars": ["HOME"]}"#, None)[0].path, "env_vars[0]");
}

#[test]
fn the_schema_has_exactly_the_known_keys() {
    let schema: Value = serde_json::from_str(Options::SCHEMA).expect("JSON");
    let documented: Vec<&str> =
        schema["properties"].as_object().expect("properties").keys().map(String::as_str).collect();
    let mut known = keys(Options::read);
    known.sort_unstable();
    assert_eq!(documented, known);
    assert_eq!(schema["additionalProperties"], false);
    assert!(schema.get("required").is_none());
}

#[test]
fn the_schema_is_up_to_date() {
    let schema = generate_schema::<Options>().to_string();
    assert_generated(env!("CARGO_MANIFEST_DIR"), "schemas/options.json", &schema);
}

#[test]
fn a_backends_own_keys_are_read_from_the_same_fields() {
    let tags = vec![(TAG.to_owned(), r#"{"image": "b"}"#.to_owned())];
    let both = |fields: &mut Fields<'_>| (Options::read(fields), fields.string("image"));
    let (options, image) = read_merged(r#"{"num_cpus": 1, "image": "a"}"#, &tags, both).expect("both");
    assert_eq!(options.num_cpus, Some(1.0));
    assert_eq!(image.as_deref(), Some("b"));
    let Err(Error::InvalidConfig(found)) = read_merged(r#"{"imag": "a"}"#, &tags, both) else {
        panic!();
    };
    assert!(found[0].hint.as_ref().is_some_and(|hint| hint.contains("num_cpus") && hint.contains("image")));
}
