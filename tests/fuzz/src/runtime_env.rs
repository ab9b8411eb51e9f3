//! A runtime environment from the configuration and the tag: the tag overrides the configuration key by key,
//! nothing is lost, and local paths become package URIs.
//!
//! The text is split at each NUL: the configuration, the tag, a RayJob's spec, an ignore file.

use std::cell::RefCell;
use std::collections::BTreeMap;

use dagster_ray_jobs::Submission;
use dagster_ray_jobs::packages::{File, PackageRules, PackageStore, Packages, Source, Writer, prepare};
use dagster_ray_kuberay::kubernetes::RAY_JOB;
use dagster_ray_kuberay::{job, manifest::Template, pipes};
use dagster_ray_sdk::{Error, model::Attributes};
use dagster_ray_submission::environment;
use dagster_ray_submission::options::{Options, TAG};
use serde_json::{Map, Value, json};

use crate::text;

/// Checks the properties for one input. Panics if one is violated.
pub fn check(data: &[u8]) {
    let text = text(data);
    let mut parts = text.split('\0');
    let mut part = || parts.next().unwrap_or_default();
    let (configuration, tag, spec, ignored) = (part(), part(), part(), part());
    if let Some(options) = options(configuration, tag) {
        let built = built(&options);
        prepared(&built, ignored);
        rayjob(built, spec);
    }
    script(configuration, spec);
}

fn read(configuration: &str, tag: Option<&str>) -> Option<Options> {
    let tags = tag.map(|tag| (TAG.to_owned(), tag.to_owned())).into_iter().collect();
    match Options::merged(configuration, &tags) {
        Ok(options) => Some(options),
        Err(error) => {
            refused(&error);
            None
        }
    }
}

/// Checks that an error is an `invalid-config` with a text for each problem. A path may be empty, because an
/// option's key may be empty.
fn refused(error: &Error) {
    let Error::InvalidConfig(mistakes) = error else { panic!("{error:?}") };
    assert!(!mistakes.is_empty());
    assert!(mistakes.iter().all(|mistake| !mistake.problem.is_empty()));
}

/// Parses the options and checks that the tag overrides the configuration key by key.
fn options(configuration: &str, tag: &str) -> Option<Options> {
    let (configured, tagged) = (read(configuration, None), read(tag, None));
    let merged = read(configuration, Some(tag));
    // A run or step that Ray does not execute ignores its other options.
    let is_local = |read: &Option<Options>| read.as_ref().is_some_and(|options| !options.is_on_ray());
    if [&configured, &tagged, &merged].into_iter().any(is_local) {
        return merged;
    }
    // Merging fails exactly if one of the two texts is invalid.
    let (Some(configured), Some(tagged)) = (&configured, &tagged) else {
        assert_eq!(merged, None);
        return configured;
    };
    let merged = merged.expect("both are valid");
    let named: Map<String, Value> = serde_json::from_str(tag).unwrap_or_default();
    let from = |key: &str| if named.contains_key(key) { tagged } else { configured };
    let expected = Options {
        enabled: from("enabled").enabled,
        isolation: from("isolation").isolation,
        process: from("process").process,
        num_cpus: from("num_cpus").num_cpus,
        num_gpus: from("num_gpus").num_gpus,
        memory: from("memory").memory,
        resources: from("resources").resources.clone(),
        runtime_env: from("runtime_env").runtime_env.clone(),
        env_vars: from("env_vars").env_vars.clone(),
        label_selector: from("label_selector").label_selector.clone(),
        metadata: from("metadata").metadata.clone(),
        delete_ended_jobs: from("delete_ended_jobs").delete_ended_jobs,
    };
    assert_eq!(merged, expected);
    Some(merged)
}

/// Builds a job's runtime environment and checks that it is the user's with the worker's variables on top.
fn built(options: &Options) -> Value {
    let lowest = [(environment::STOP_WAIT, "60")];
    let highest = [(environment::JOB_NAME.to_owned(), "job".to_owned())];
    let built = environment::build(options, &lowest, &highest);
    let variables = built["env_vars"].as_object().expect("variables");
    assert_eq!(variables[environment::JOB_NAME], "job");
    assert!(variables.values().all(Value::is_string), "Ray takes strings only: {variables:?}");
    let chosen: BTreeMap<_, _> = options.env_vars.iter().cloned().collect();
    for (name, value) in chosen.iter().filter(|(name, _)| *name != environment::JOB_NAME) {
        assert_eq!(variables[name], value.as_str());
    }
    assert_eq!(without_variables(&built), without_variables(&Value::from(options.runtime_env.clone())));
    built
}

fn without_variables(env: &Value) -> Map<String, Value> {
    let mut env = env.as_object().cloned().unwrap_or_default();
    env.remove("env_vars");
    env
}

/// A directory and files in memory, by path.
struct Disk(BTreeMap<String, Vec<u8>>);

struct Opened {
    name: String,
    files: BTreeMap<String, Vec<u8>>,
}

impl Disk {
    fn new(ignored: &str) -> Self {
        let file = |path: &str, content: &str| (path.to_owned(), content.as_bytes().to_vec());
        Self(BTreeMap::from([
            file("project/.gitignore", ignored),
            file("project/a/.rayignore", ignored),
            file("project/a/b.py", "b"),
            file("project/a/c/d.txt", "d"),
            file("project/ü [x].csv", ""),
            file("module.py", "m"),
            file("wheel-1-py3-none-any.whl", "w"),
            file("archive.tar.gz", "t"),
            file("archive.zip", "PK\u{5}\u{6}"),
        ]))
    }
}

impl Packages for Disk {
    fn open(&self, path: &str) -> Result<Box<dyn Source>, Error> {
        let path = path.trim_end_matches('/');
        let name = path.rsplit('/').next().unwrap_or(path);
        let files: BTreeMap<_, _> = match self.0.get(path) {
            Some(content) => BTreeMap::from([(name.to_owned(), content.clone())]),
            None => self
                .0
                .iter()
                .filter_map(|(whole, content)| {
                    let below = whole.strip_prefix(path)?.strip_prefix('/')?;
                    Some((below.to_owned(), content.clone()))
                })
                .collect(),
        };
        if files.is_empty() {
            return Err(Error::NotFound(path.to_owned()));
        }
        Ok(Box::new(Opened { name: name.to_owned(), files }))
    }
}

impl Source for Opened {
    fn is_directory(&self) -> bool {
        !self.files.contains_key(&self.name)
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn files(&self) -> Result<Vec<File>, Error> {
        let file = |(path, content): (&String, &Vec<u8>)| File {
            path: path.clone(),
            size: content.len() as u64,
            mode: 0o644,
            empty_directory: false,
        };
        Ok(self.files.iter().map(file).collect())
    }

    fn read(&self, path: &str, offset: u64, length: u32) -> Result<Vec<u8>, Error> {
        let content = self.files.get(path).ok_or_else(|| Error::NotFound(path.to_owned()))?;
        let start = usize::try_from(offset).expect("small").min(content.len());
        Ok(content[start..].iter().take(length as usize).copied().collect())
    }
}

/// The packages that were uploaded to Ray.
#[derive(Default)]
struct Kept(RefCell<BTreeMap<String, Vec<u8>>>);

impl PackageStore for Kept {
    fn exists(&self, name: &str) -> Result<bool, Error> {
        Ok(self.0.borrow().contains_key(name))
    }

    fn put(&self, name: &str, size: u64, write: &mut Writer<'_>) -> Result<(), Error> {
        let (mut bytes, mut again) = (Vec::new(), Vec::new());
        write(&mut bytes)?;
        write(&mut again)?;
        assert_eq!(bytes.len() as u64, size, "the package has the announced size");
        assert_eq!(bytes, again, "a second write gives the same bytes");
        assert!(self.0.borrow_mut().insert(name.to_owned(), bytes).is_none(), "uploaded twice");
        Ok(())
    }
}

/// Checks that local paths become URIs, other values stay, and a second pass changes nothing.
fn prepared(env: &Value, ignored: &str) {
    let (disk, rules, store) = (Disk::new(ignored), PackageRules::default(), Kept::default());
    let prepared = match prepare(env.clone(), &disk, &rules, &store) {
        Ok(prepared) => prepared,
        Err(error) => return refused(&error),
    };
    let others = |env: &Value| {
        let mut env = env.as_object().cloned().expect("an object");
        let paths = (env.remove("working_dir"), env.remove("py_modules"));
        (env, paths)
    };
    let ((kept, (working_dir, modules)), (before, _)) = (others(&prepared), others(env));
    assert_eq!(kept, before);
    let modules = modules.as_ref().and_then(Value::as_array).into_iter().flatten();
    for path in working_dir.iter().filter(|path| !path.is_null()).chain(modules) {
        let uri = path.as_str().expect("text");
        assert!(uri.contains(':'), "{uri} is not a URI");
        if let Some(name) = uri.strip_prefix("gcs://_ray_pkg_") {
            let hash = name.split('.').next().expect("a name");
            let is_ours = store.0.borrow().contains_key(&format!("_ray_pkg_{name}"));
            assert!(!is_ours || hash.bytes().all(|b| b.is_ascii_hexdigit()), "{uri}");
        }
    }
    let count = store.0.borrow().len();
    assert_eq!(prepare(prepared.clone(), &disk, &rules, &store), Ok(prepared.clone()));
    assert_eq!(
        prepare(env.clone(), &disk, &rules, &store),
        Ok(prepared),
        "the same content has the same name"
    );
    assert_eq!(store.0.borrow().len(), count, "uploaded again under another name");
}

/// Checks that a completed RayJob contains the values of the submission.
fn rayjob(env: Value, spec: &str) {
    let manifest = serde_json::from_str::<Value>(spec).ok().map(|spec| json!({ "spec": spec }));
    let mut template = match Template::read(manifest, RAY_JOB, "ray_job") {
        Ok(template) => template,
        Err(error) => return refused(&error),
    };
    let submission = Submission {
        entrypoint: "exec true".to_owned(),
        submission_id: "dagster-run-r".to_owned(),
        runtime_env: env.clone(),
        ..Submission::default()
    };
    match job::manifest::complete(&mut template, submission, Some("image")) {
        Ok(()) => {
            let written = template.spec["runtimeEnvYAML"].as_str().expect("text");
            assert_eq!(serde_json::from_str::<Value>(written).expect("JSON"), env);
            assert_eq!(template.spec["submissionMode"], "HTTPMode");
            assert_eq!(template.spec["entrypoint"], "exec true");
        }
        Err(error) => refused(&error),
    }
}

/// Checks that a script's runtime environment is that of the option or of its RayJob, with the Pipes bootstrap
/// variables added.
fn script(option: &str, spec: &str) {
    let Ok(Value::Object(spec)) = serde_json::from_str(spec) else { return };
    let option = serde_json::from_str::<Map<String, Value>>(option).ok();
    let bootstrap: Attributes = vec![("DAGSTER_PIPES_CONTEXT".to_owned(), "c".to_owned())];
    let opened = |option: &Option<Map<String, Value>>, mut spec: Map<String, Value>| {
        pipes::runtime_env(&mut spec, option.clone(), &bootstrap).map(|()| spec)
    };
    for option in [option, None] {
        let result = opened(&option, spec.clone());
        assert!(result.is_err() || !spec.contains_key("runtimeEnvYaml"), "KubeRay ignores this spelling");
        let done = match result {
            Ok(done) => done,
            Err(error) => {
                refused(&error);
                continue;
            }
        };
        let text = done["runtimeEnvYAML"].as_str().expect("text");
        let env: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(env["env_vars"]["DAGSTER_PIPES_CONTEXT"], "c");
        let written = || {
            let text = spec.get("runtimeEnvYAML")?.as_str()?;
            Some(serde_json::from_str(text).expect("valid JSON, as checked before"))
        };
        let source = option.map(Value::from).or_else(written).unwrap_or_default();
        assert_eq!(without_variables(&env), without_variables(&source));
        // Other variables stay; only the bootstrap variables are replaced.
        for (name, value) in source.get("env_vars").and_then(Value::as_object).into_iter().flatten() {
            assert!(name == "DAGSTER_PIPES_CONTEXT" || env["env_vars"][name] == *value, "{name}");
        }
    }
}
