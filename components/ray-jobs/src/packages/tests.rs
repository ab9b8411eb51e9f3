//! Compares package names with those that Ray 2.60 computed for the same files.

use std::{cell::RefCell, collections::BTreeMap};

use dagster_ray_sdk::Error;
use serde_json::json;

use super::{File, PackageRules, PackageStore, Packages, Source, Writer, prepare};

#[derive(Clone)]
struct Memory {
    name: String,
    files: BTreeMap<String, Vec<u8>>,
}

impl Source for Memory {
    fn is_directory(&self) -> bool {
        !self.name.contains('.')
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn files(&self) -> Result<Vec<File>, Error> {
        Ok(self
            .files
            .iter()
            .map(|(path, content)| File {
                path: path.trim_end_matches('/').to_owned(),
                size: content.len() as u64,
                mode: 0o755,
                empty_directory: path.ends_with('/'),
            })
            .collect())
    }

    fn read(&self, path: &str, offset: u64, length: u32) -> Result<Vec<u8>, Error> {
        let content = &self.files[path];
        let start = usize::try_from(offset).unwrap().min(content.len());
        Ok(content[start..content.len().min(start + length as usize)].to_vec())
    }
}

struct Disk(Vec<Memory>);

impl Packages for Disk {
    fn open(&self, path: &str) -> Result<Box<dyn Source>, Error> {
        let name = path.rsplit('/').next().unwrap();
        match self.0.iter().find(|source| source.name == name) {
            Some(found) => Ok(Box::new(found.clone())),
            None => Err(Error::NotFound(path.to_owned())),
        }
    }
}

#[derive(Default)]
struct MemoryStore(RefCell<BTreeMap<String, Vec<u8>>>);

impl PackageStore for MemoryStore {
    fn exists(&self, name: &str) -> Result<bool, Error> {
        Ok(self.0.borrow().contains_key(name))
    }

    fn put(&self, name: &str, size: u64, write: &mut Writer<'_>) -> Result<(), Error> {
        let mut bytes = Vec::new();
        write(&mut bytes)?;
        assert_eq!(bytes.len() as u64, size, "the announced size");
        assert!(self.0.borrow_mut().insert(name.to_owned(), bytes).is_none(), "sent twice");
        Ok(())
    }
}

fn memory(name: &str, files: &[(&str, &str)]) -> Memory {
    let files =
        files.iter().map(|(path, content)| ((*path).to_owned(), content.as_bytes().to_vec())).collect();
    Memory { name: name.to_owned(), files }
}

fn project() -> Memory {
    memory(
        "t",
        &[
            (".gitignore", "*.log\n!keep.log\n/build/\n# note\ndata/**/raw\n"),
            ("main.py", "print('hi')\n"),
            ("a.log", "x"),
            ("keep.log", "k"),
            ("build/out.bin", "b"),
            ("sub/build/in.txt", "kept"),
            ("data/x/y/raw/f", "1"),
            ("data/x/y/fine", "2"),
            ("data/raw", "3"),
            ("sub/.rayignore", "secret*\n[ab]?.txt\n"),
            ("sub/secret.txt", "s"),
            ("sub/a1.txt", "a"),
            ("sub/c1.txt", "c"),
            (".git/HEAD", "ref"),
            ("pkg/__pycache__/m.pyc", "p"),
            ("pkg/__init__.py", ""),
            ("pkg/ü.txt", "é"),
            ("cache/.gitignore", "*\n"),
            ("cache/blob", "z"),
            ("a-b/x", "1"),
            ("a/x", "2"),
            ("big.bin", &"0123456789".repeat(300_000)),
            ("empty/", ""),
        ],
    )
}

fn disk() -> Disk {
    Disk(vec![
        project(),
        memory("pkg", &[("__pycache__/m.pyc", "p"), ("__init__.py", ""), ("ü.txt", "é")]),
        memory("main.py", &[("main.py", "print('hi')\n")]),
        memory("main.zip", &[("main.zip", "print('hi')\n")]),
        memory("tool-1.0-py3-none-any.whl", &[("tool-1.0-py3-none-any.whl", "wheel")]),
    ])
}

#[test]
fn settings_override_rays_defaults() {
    let settings = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let read = |pairs: &[(&str, &str)]| PackageRules::from_settings(&settings(pairs));
    assert_eq!(read(&[]), Ok(PackageRules::default()));
    let rules = read(&[("gitignore", "false"), ("default_excludes", ".git, data ,")]).unwrap();
    assert!(!rules.gitignore);
    assert_eq!(rules.default_excludes, [".git", "data"]);
    assert!(read(&[("default_excludes", "")]).unwrap().default_excludes.is_empty());
    let Err(Error::InvalidConfig(mistakes)) = read(&[("gitignore", "0")]) else { panic!("rules") };
    assert_eq!(mistakes[0].path, "gitignore");
}

#[test]
fn package_names_equal_those_of_rays_client() {
    let store = MemoryStore::default();
    let rules = PackageRules::default();
    let name = |env, rules: &PackageRules| prepare(env, &disk(), rules, &store).unwrap();

    let env = name(json!({"working_dir": "/home/me/t", "pip": ["x"]}), &rules);
    assert_eq!(env, json!({"working_dir": "gcs://_ray_pkg_3ba6d6d5642e1ff0.zip", "pip": ["x"]}));
    let excludes = json!(["*.py", "/a/", "sub/**/c1.txt"]);
    let env = name(json!({"working_dir": "t", "excludes": excludes}), &rules);
    assert_eq!(env["working_dir"], "gcs://_ray_pkg_10fd6568f2c8252f.zip");
    let bare = PackageRules { default_excludes: Vec::new(), gitignore: false, ..rules.clone() };
    let env = name(json!({"working_dir": "t"}), &bare);
    assert_eq!(env["working_dir"], "gcs://_ray_pkg_0cdef140284b5d7c.zip");

    let modules = json!(["./pkg", "main.py", "dist/tool-1.0-py3-none-any.whl", "s3://bucket/m.zip"]);
    let env = name(json!({"py_modules": modules, "working_dir": "main.zip"}), &rules);
    assert_eq!(
        env["py_modules"],
        json!([
            "gcs://_ray_pkg_c43d0c2687d5ca0c.zip",
            "gcs://_ray_pkg_304a8ebe993cf578.zip",
            "gcs://tool-1.0-py3-none-any.whl",
            "s3://bucket/m.zip"
        ])
    );
    assert_eq!(env["working_dir"], "gcs://_ray_pkg_c977a53aa68edc432279a1b2cbdc234c8d815702.zip");

    // An existing package is not uploaded again: the store would panic.
    name(json!({"working_dir": "t"}), &rules);
}

#[test]
fn errors_name_the_field_and_the_fix() {
    let store = MemoryStore::default();
    let small = PackageRules { size_limit: 1_000, ..PackageRules::default() };
    for (env, field, part) in [
        (json!({"working_dir": "/nowhere"}), "runtime_env.working_dir", "does not exist"),
        (json!({"working_dir": "main.py"}), "runtime_env.working_dir", ".tar.gz"),
        (json!({"working_dir": 3}), "runtime_env.working_dir", "not a string"),
        (json!({"py_modules": "pkg"}), "runtime_env.py_modules", "not a list"),
        (json!({"py_modules": ["pkg", "x.txt"]}), "runtime_env.py_modules.1", "does not exist"),
        (json!({"working_dir": "t"}), "runtime_env.working_dir", "excludes"),
    ] {
        let error = prepare(env, &disk(), &small, &store).unwrap_err();
        assert!(matches!(error, Error::InvalidConfig(_)));
        let text = error.message();
        assert!(text.contains(field) && text.contains(part), "{text}");
    }
}
