//! Key-value buckets: which component can open one, and that its content outlives the call.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dagster_ray_runtime::model::Error;
use dagster_ray_runtime::{Backend, BackendOptions, CallError};
use sandbox_tests::{call, host};
use serde_json::{Value, json};

const GRANTS: &str = "packages = true\nprocesses = { supervisor = [[]] }\ntasks = true\n";

/// Creates a backend from the component `simulated`, which uses buckets, with another manifest.
fn simulated(folder: &Path, grants: &str, bucket: Option<PathBuf>) -> Backend {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let wasm = root.join("target/wasm32-wasip2/component/dagster_ray_simulated.wasm");
    let path = folder.join("subject.wasm");
    std::fs::copy(&wasm, &path).expect("`cargo xtask build` has been run");
    std::fs::write(path.with_extension("toml"), format!("id = 'subject'\n[grants]\n{grants}")).unwrap();
    let directory = folder.to_str().unwrap().to_owned();
    let settings = BTreeMap::from([("simulation".to_owned(), directory)]);
    let buckets = bucket.into_iter().map(|path| ("simulation".to_owned(), path)).collect();
    let options = BackendOptions {
        path,
        settings,
        buckets,
        directories: vec![folder.to_owned()],
        ..BackendOptions::default()
    };
    Backend::new(host(), options)
}

fn list(backend: &Backend) -> Result<Value, CallError> {
    call(backend, "cluster.list", &json!({"query": {"namespace": null, "labels": [], "kind": null}}))
}

#[test]
fn a_component_without_the_grant_is_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let text = list(&simulated(folder.path(), GRANTS, None)).unwrap_err().to_string();
    assert!(text.contains("wasi:keyvalue/") && text.contains(r#"keyvalue = ["<bucket>"]"#), "{text}");
}

#[test]
fn an_ungranted_bucket_is_denied_with_the_grant_to_add() {
    let folder = tempfile::tempdir().unwrap();
    let grants = format!("{GRANTS}keyvalue = ['other']\n");
    let bucket = folder.path().join("bucket");
    let error = list(&simulated(folder.path(), &grants, Some(bucket.clone()))).unwrap_err();
    let CallError::Returned { error, .. } = error else { panic!("{error}") };
    let Error::Denied(denial) = *error else { panic!("{error:?}") };
    assert_eq!((denial.capability.as_str(), denial.target.as_str()), ("keyvalue", "simulation"));
    assert_eq!(denial.grant, r#"keyvalue = ["simulation"]"#);
    assert!(!bucket.exists());
}

#[test]
fn a_granted_bucket_must_be_configured() {
    let folder = tempfile::tempdir().unwrap();
    let grants = format!("{GRANTS}keyvalue = ['simulation']\n");
    let text = list(&simulated(folder.path(), &grants, None)).unwrap_err().to_string();
    assert!(text.contains("the simulation's bucket `simulation`: it does not exist"), "{text}");
}

#[test]
fn a_bucket_keeps_its_content_between_calls() {
    let folder = tempfile::tempdir().unwrap();
    let grants = format!("{GRANTS}keyvalue = ['simulation']\n");
    let bucket = folder.path().join("bucket");
    let owner =
        json!({"deployment": "d", "run_id": "r", "step_key": null, "resource_key": null, "holder": "h"});
    let spec =
        json!({"name": "../mine", "owner": owner, "image": null, "labels": [], "env": [], "options": "{}"});
    call(&simulated(folder.path(), &grants, Some(bucket.clone())), "cluster.create", &json!({"spec": spec}))
        .unwrap();
    let found = list(&simulated(folder.path(), &grants, Some(bucket.clone()))).unwrap();
    assert_eq!(found[0]["cluster"]["name"], "../mine");
    assert_eq!(std::fs::read_dir(&bucket).unwrap().count(), 2, "the cluster, and the lock");
}
