use super::*;

#[derive(Debug, PartialEq)]
struct Options {
    name: Option<String>,
    limit: Option<u64>,
    nested: Option<Vec<(String, String)>>,
}

impl Options {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            name: fields.string("name"),
            limit: fields.bytes("limit"),
            nested: fields
                .options("nested", "write an object", |nested| nested.variables("env_vars"))
                .flatten(),
        }
    }
}

fn tagged(value: &str) -> Attributes {
    vec![("team".to_owned(), "[".to_owned()), (TAG.to_owned(), value.to_owned())]
}

fn mistakes<T: std::fmt::Debug>(read: Result<T, Error>) -> Vec<(String, String)> {
    match read {
        Err(Error::InvalidConfig(mistakes)) => {
            assert!(mistakes.iter().all(|mistake| mistake.hint.is_some()), "{mistakes:?}");
            mistakes.into_iter().map(|mistake| (mistake.path, mistake.problem)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_tag_replaces_configured_values_and_its_null_removes_them() {
    let configuration = r#"{"name": "a", "limit": 5, "nested": {"env_vars": ["A=1"]}}"#;
    let read = |tag| read_merged(configuration, &tagged(tag), Options::read).unwrap();
    let overridden = read(r#"{"name": "b", "limit": null, "nested": {}}"#);
    assert_eq!(overridden, Options { name: Some("b".to_owned()), limit: None, nested: None });
    let nested = Some(vec![("A".to_owned(), "1".to_owned())]);
    for none in ["{}", "null", " "] {
        assert_eq!(
            read(none),
            Options { name: Some("a".to_owned()), limit: Some(5), nested: nested.clone() }
        );
    }
}

#[test]
fn every_mistake_is_reported_in_the_order_of_documents_and_paths() {
    let configuration = r#"{"other": 1, "name": 2, "nested": {"env_vars": ["=secret", "A"], "more": null}}"#;
    let found = mistakes(read_merged(configuration, &tagged(r#"{"limit": -1, "a": 0}"#), Options::read));
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "name",
            "nested.env_vars[0]",
            "nested.env_vars[1]",
            "nested.more",
            "other",
            "dagster-ray/config.a",
            "dagster-ray/config.limit",
        ]
    );
    assert!(found.iter().all(|(_, problem)| !problem.contains("secret")));
    let found = mistakes(read_merged("[1]", &tagged("{"), Options::read));
    assert_eq!(found[0], ("options".to_owned(), "is a list, not an object".to_owned()));
    assert!(found[1].0 == TAG && found[1].1.starts_with("is not JSON"), "{found:?}");
}

#[test]
fn mistakes_are_ignored_in_options_that_do_not_apply() {
    let read = |fields: &mut Fields<'_>| (fields.boolean(ENABLED), fields.string("name"));
    let wrong = r#"{"enabled": false, "name": 3, "other": 1}"#;
    assert_eq!(read_merged(wrong, &Vec::new(), read), Ok((Some(false), None)));
    assert!(read_merged(wrong, &tagged(r#"{"enabled": true}"#), read).is_err());
}

#[test]
fn a_field_that_contains_options_is_named_in_each_path() {
    assert_eq!(
        mistakes(read_field("backend_config", r#"{"limit": 0.5}"#, Options::read))[0].0,
        "backend_config.limit"
    );
    assert_eq!(mistakes(read_field("backend_config", "3", Options::read))[0].0, "backend_config");
}

#[test]
fn a_required_string_is_neither_missing_nor_blank() {
    let read = |text| read_document(text, |fields| fields.required_string("entrypoint", "write a command"));
    for (text, problem) in [
        ("{}", "is missing"),
        (r#"{"entrypoint": null}"#, "is missing"),
        (r#"{"entrypoint": " "}"#, "is blank"),
        (r#"{"entrypoint": 3}"#, "is a number, not a string"),
    ] {
        assert_eq!(mistakes(read(text)), [("entrypoint".to_owned(), problem.to_owned())]);
    }
    assert_eq!(read(r#"{"entrypoint": "a"}"#), Ok(Some("a".to_owned())));
}

#[test]
fn keys_are_those_that_are_read() {
    assert_eq!(keys(Options::read), ["name", "limit", "nested"]);
}
