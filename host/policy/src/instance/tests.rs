use serde_json::{Value, json};

use super::*;

fn choice(source: Source, field: &str, value: Value) -> Choice {
    Choice { field: field.to_owned(), path: field.to_owned(), value, source }
}

fn refused(policy: &str, source: Source, field: &str, value: Value) -> Option<String> {
    let policy = InstancePolicy::parse(policy, "dagster-ray.toml").unwrap();
    policy.check(&[choice(source, field, value)]).err().map(|refusal| refusal.line)
}

fn tag(policy: &str, value: Value) -> Option<String> {
    refused(policy, Source::RunTag, "dagster-ray/config", value)
}

#[test]
fn without_a_policy_a_launch_user_chooses_no_connection_and_a_code_author_does() {
    let fields = [
        ("address", json!("http://evil:8265"), r#"addresses = ["http://evil:8265"]"#),
        ("address", json!({"env": "HOME"}), r#"addresses = ["{\"env\":\"HOME\"}"]"#),
        ("backend", json!("oci://evil/x@sha256:00"), r#"backends = ["oci://evil/x@sha256:00"]"#),
        ("backend_programs", json!({"ray": ["/bin/sh"]}), r#"programs = ["/bin/sh"]"#),
        ("backend_grants", json!({}), r#"fields = ["backend_grants"]"#),
        ("backend_grants", Value::Null, r#"fields = ["backend_grants"]"#),
        ("backend_sha256", json!("00"), r#"digests = ["00"]"#),
        ("backend_config", json!({"image": "evil"}), r#"fields = ["backend_config.image"]"#),
        ("backend_config", json!({"namespace": "kube-system"}), r#"namespaces = ["kube-system"]"#),
        ("kube_config", json!("/tmp/config"), r#"kube_configs = ["/tmp/config"]"#),
        ("kube_context", json!("production"), r#"contexts = ["production"]"#),
        ("headers", json!({"Authorization": "secret"}), r#"fields = ["headers"]"#),
        ("verify", json!(false), r#"fields = ["verify"]"#),
        ("verify", json!("/etc/shadow"), r#"directories = ["/etc/shadow"]"#),
        ("directory", json!("/tmp/pickles"), r#"directories = ["/tmp/pickles"]"#),
        ("ray_init_options", json!({"address": "evil"}), r#"fields = ["ray_init_options"]"#),
        ("ray_job", json!({"metadata": {"namespace": "x"}}), r#"namespaces = ["x"]"#),
    ];
    for (field, value, line) in fields {
        assert_eq!(refused("", Source::RunConfig, field, value.clone()).as_deref(), Some(line));
        assert_eq!(refused("", Source::Code, field, value.clone()), None);
        assert_eq!(refused("", Source::Operator, field, value), None);
    }
    for (field, value) in [("num_cpus", json!(2)), ("env_vars", json!(["A=b"])), ("enabled", json!(false))] {
        assert_eq!(refused("", Source::RunConfig, field, value), None);
    }
}

#[test]
fn a_run_tag_reads_no_variable_and_no_file_of_the_daemon() {
    assert_eq!(tag("", json!({"env_vars": ["A=b", "TOKEN"]})).unwrap(), r#"env_vars = ["TOKEN"]"#);
    assert_eq!(tag("", json!({"env_vars": [{"env": "A"}]})).unwrap(), r#"env_vars = ["*"]"#);
    let reserved = json!({"env_vars": ["RAY_ADDRESS=http://evil"]});
    assert_eq!(tag("", reserved.clone()).unwrap(), r#"env_vars = ["RAY_ADDRESS"]"#);
    assert_eq!(tag("[launch]\nenv_vars = ['RAY_ADDRESS']", reserved), None);
    let reserved = json!({"runtime_env": {"env_vars": {"DAGSTER_RAY_POLICY_TEXT": ""}}});
    assert_eq!(tag("", reserved).unwrap(), r#"env_vars = ["DAGSTER_RAY_POLICY_TEXT"]"#);
    let upload = |path: &str| json!({"runtime_env": {"working_dir": path}});
    assert_eq!(tag("", upload("/etc")).unwrap(), r#"directories = ["/etc"]"#);
    assert_eq!(tag("", upload("s3://code/a.zip")), None);
    assert_eq!(
        tag("", json!({"runtime_env": {"py_modules": ["https://a/b.zip", "~"]}})).unwrap(),
        r#"directories = ["~"]"#
    );
    let policy = "[launch]\ndirectories = ['/srv/code/']\nenv_vars = ['TOKEN']";
    assert_eq!(tag(policy, upload("/srv/code/a")), None);
    assert!(tag(policy, upload("/srv/code/../../etc")).is_some());
    assert!(tag(policy, upload("/srv/coders")).is_some());
    assert_eq!(tag(policy, json!({"env_vars": ["TOKEN"]})), None);
}

#[test]
fn a_run_tag_names_no_file_of_requirements() {
    let env = |field: &str, value: Value| json!({"runtime_env": {field: value}});
    for (field, file) in [("pip", "/etc/passwd"), ("uv", "secrets.txt"), ("conda", "/home/me/env.yml")] {
        let line = format!("directories = [\"{file}\"]");
        assert_eq!(tag("", env(field, json!(file))).unwrap(), line);
        let policy = format!("[launch]\ndirectories = ['{file}']");
        assert_eq!(tag(&policy, env(field, json!(file))), None);
        assert_eq!(refused("", Source::Code, "runtime_env", json!({field: file})), None);
        assert_eq!(refused("", Source::RunConfig, "runtime_env", json!({field: file})).unwrap(), line);
    }
    for value in [json!(["polars"]), json!({"packages": ["polars"]}), Value::Null] {
        assert_eq!(tag("", env("pip", value)), None);
    }
    // The name of an environment on the nodes of Ray.
    assert_eq!(tag("", env("conda", json!("pytorch"))), None);
}

#[test]
fn a_run_tag_chooses_neither_certificates_nor_headers() {
    for name in ["RAY_JOB_HEADERS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
        let line = format!("env_vars = [\"{name}\"]");
        assert_eq!(tag("", json!({"env_vars": [format!("{name}=x")]})).unwrap(), line);
        assert_eq!(tag("", json!({"runtime_env": {"env_vars": {name: "x"}}})).unwrap(), line);
    }
}

#[test]
fn tag_fields_limits_what_a_tag_sets() {
    let policy = "[launch]\ntag_fields = ['num_cpus']";
    assert_eq!(tag(policy, json!({"num_cpus": 1})), None);
    assert_eq!(tag(policy, json!({"num_gpus": 1})).unwrap(), r#"tag_fields = ["num_gpus"]"#);
    assert_eq!(tag("", json!({"num_gpus": 1, "image": "a", "runtime_env": null})), None);
}

#[test]
fn listed_digests_pin_every_component_that_is_not_built_in() {
    let policy = InstancePolicy::parse(
        "[code]\nbackends = ['kuberay', '/opt/', 'oci://ghcr.io/team/']\ndigests = ['aa']",
        "x",
    )
    .unwrap();
    let code = |field: &str, value: &str| choice(Source::Code, field, json!(value));
    let allowed = |choices: &[Choice]| policy.check(choices).is_ok();
    assert!(allowed(&[code("backend", "kuberay")]));
    assert!(allowed(&[code("backend", "oci://ghcr.io/team/ours@sha256:aa")]));
    assert!(!allowed(&[code("backend", "oci://ghcr.io/team/ours@sha256:bb")]));
    assert!(!allowed(&[code("backend", "oci://ghcr.io/team/../evil@sha256:aa")]));
    assert!(!allowed(&[code("backend", "/opt/ours.wasm")]));
    assert!(allowed(&[code("backend", "/opt/ours.wasm"), code("backend_sha256", "aa")]));
    assert!(!allowed(&[code("backend", "/tmp/ours.wasm"), code("backend_sha256", "aa")]));
}

#[test]
fn errors_name_the_line_to_write_and_no_credential() {
    let refusal = InstancePolicy::default()
        .check(&[choice(Source::RunConfig, "address", json!("http://user:secret@evil"))])
        .unwrap_err();
    let text = refusal.to_string();
    assert!(text.contains("[launch]") && text.contains("addresses = ["), "{text}");
    assert!(!text.contains("secret"), "{text}");
    let invalid = InstancePolicy::parse("[launch]\nbackend = ['x']", "/home/dagster-ray.toml").unwrap_err();
    assert!(invalid.to_string().contains("/home/dagster-ray.toml"), "{invalid}");
    assert!(InstancePolicy::parse("[code]\ntag_fields = ['num_cpus']", "x").is_err());
}

#[test]
fn a_list_of_digests_that_allows_everything_requires_no_pin() {
    let policy = |digests: &str| format!("[launch]\nbackends = ['/opt/']\ndigests = [{digests}]");
    let backend = || json!("/opt/ours.wasm");
    assert_eq!(refused(&policy("'*'"), Source::RunConfig, "backend", backend()), None);
    assert!(refused(&policy("'aa'"), Source::RunConfig, "backend", backend()).is_some());
    assert!(refused(&policy(""), Source::RunConfig, "backend", backend()).is_some());
    assert_eq!(refused(&policy("'aa'"), Source::RunConfig, "backend_sha256", json!("AA")), None);
}

#[test]
fn the_json_schema_accepts_the_policies_that_are_parsed() {
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.add_resource("urn:policy", InstancePolicy::schema()).unwrap();
    let index = compiler.compile("urn:policy", &mut schemas).unwrap();
    let launch = InstancePolicy::schema()["properties"]["launch"]["properties"].clone();
    let all: Vec<_> = launch.as_object().unwrap().keys().map(|name| format!("{name} = ['x']")).collect();
    for (text, is_valid) in [
        (String::new(), true),
        (format!("[launch]\n{}", all.join("\n")), true),
        ("[launch]\nother = []".to_owned(), false),
        ("[launch]\nfields = 'x'".to_owned(), false),
        ("[code]\nbackends = ['*']".to_owned(), true),
        ("[code]\nfields = []".to_owned(), false),
        ("[code]\ntag_fields = []".to_owned(), false),
        ("[values]\nkey_files = ['/k']".to_owned(), true),
        ("[values]\nkey_files = []".to_owned(), false),
        ("[values]".to_owned(), false),
        ("[signatures]".to_owned(), false),
        ("[other]".to_owned(), false),
    ] {
        let document: Value = toml::from_str(&text).unwrap();
        assert_eq!(schemas.validate(&document, index).is_ok(), is_valid, "{text}");
        assert_eq!(InstancePolicy::parse(&text, "x").is_ok(), is_valid, "{text}");
    }
}
