//! Replaces local paths in a runtime environment with URIs of uploaded packages.

use std::io::Write;

use dagster_ray_sdk::{
    Error, info,
    json::{self, Map, Value},
    settings::Settings,
};

use super::{
    Packages, Source, hash, ignore::Patterns, location::is_local_path, source::each_piece, tree::Tree,
    zip_archive,
};

/// Writes a package while it is uploaded.
pub type Writer<'a> = dyn FnMut(&mut dyn Write) -> Result<(), Error> + 'a;

/// The package store of a Ray cluster.
pub trait PackageStore {
    /// Returns whether the store has a package of this name.
    fn exists(&self, name: &str) -> Result<bool, Error>;

    /// Uploads a package of `size` bytes. A retry calls `write` again.
    fn put(&self, name: &str, size: u64, write: &mut Writer<'_>) -> Result<(), Error>;
}

/// Excludes and the size limit of packages, besides the `excludes` of a runtime environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageRules {
    /// Patterns that are excluded from each `working_dir`.
    pub default_excludes: Vec<String>,
    /// Whether `.gitignore` files apply. `.rayignore` files always apply.
    pub gitignore: bool,
    /// The exclusive upper bound of a package's size, in bytes.
    pub size_limit: u64,
}

impl Default for PackageRules {
    /// Returns Ray's defaults, which apply when no environment variable overrides them.
    fn default() -> Self {
        Self {
            default_excludes: [".git", ".venv", "venv", "__pycache__"].map(str::to_owned).to_vec(),
            gitignore: true,
            size_limit: 512 * 1024 * 1024,
        }
    }
}

impl PackageRules {
    /// The setting that corresponds to Ray's variable `RAY_RUNTIME_ENV_IGNORE_GITIGNORE`.
    pub const GITIGNORE: &str = "gitignore";
    /// The setting that corresponds to Ray's variable `RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES`.
    pub const DEFAULT_EXCLUDES: &str = "default_excludes";

    /// Reads the settings. A missing one has Ray's default.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if a setting is invalid.
    pub fn from_settings(settings: &impl Settings) -> Result<Self, Error> {
        let mut rules = Self::default();
        match settings.get(Self::GITIGNORE)?.as_deref() {
            None | Some("true") => {}
            Some("false") => rules.gitignore = false,
            Some(_) => {
                return Err(Error::invalid(Self::GITIGNORE, "is not a boolean", Some("write true or false")));
            }
        }
        if let Some(excludes) = settings.get(Self::DEFAULT_EXCLUDES)? {
            let patterns = excludes.split(',').map(str::trim).filter(|pattern| !pattern.is_empty());
            rules.default_excludes = patterns.map(str::to_owned).collect();
        }
        Ok(rules)
    }

    /// Returns the settings' keys and descriptions, for a component's `describe`.
    #[must_use]
    pub fn described() -> [(String, String); 2] {
        [
            (
                Self::GITIGNORE,
                "Whether the `.gitignore` files of an uploaded directory apply. Default: `true`, unless the variable \
                 RAY_RUNTIME_ENV_IGNORE_GITIGNORE is 1.",
            ),
            (
                Self::DEFAULT_EXCLUDES,
                "Comma-separated patterns that each uploaded `working_dir` leaves out. Default: the variable \
                 RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES, or `.git,.venv,venv,__pycache__`.",
            ),
        ]
        .map(|(key, text)| (key.to_owned(), text.to_owned()))
    }
}

/// File name endings of the archives that a `working_dir` can name.
const ARCHIVES: [&str; 4] = [".zip", ".tar.gz", ".tgz", ".tar.xz"];

/// Uploads the local paths in `working_dir` and `py_modules`, and replaces them with `gcs://` URIs.
pub fn prepare(
    mut env: Value,
    packages: &impl Packages,
    rules: &PackageRules,
    store: &impl PackageStore,
) -> Result<Value, Error> {
    let Some(fields) = env.as_object_mut() else {
        return if env.is_null() {
            Ok(Map::new().into())
        } else {
            Err(Error::invalid("runtime_env", "is not an object", Some("write an object")))
        };
    };
    let excludes = strings(fields.get("excludes"), "runtime_env.excludes")?;
    let upload = Upload { packages, rules, store };

    if let Some(value) = fields.get_mut("working_dir")
        && !value.is_null()
    {
        let path = text(value, "runtime_env.working_dir")?;
        if is_local_path(&path) {
            *value = Value::String(upload.working_dir(&path, &excludes)?);
        }
    }
    if let Some(value) = fields.get_mut("py_modules")
        && !value.is_null()
    {
        let modules = strings(Some(value), "runtime_env.py_modules")?;
        let mut uris = Vec::with_capacity(modules.len());
        for (index, path) in modules.into_iter().enumerate() {
            uris.push(Value::String(if is_local_path(&path) {
                upload.py_module(&path, index, &excludes)?
            } else {
                path
            }));
        }
        *value = Value::Array(uris);
    }
    Ok(env)
}

fn text(value: &Value, path: &str) -> Result<String, Error> {
    value.as_str().map(str::to_owned).ok_or_else(|| {
        Error::invalid(
            path,
            &format!("`{}` is not a string", json::text(value)),
            Some("write a local path or a URI"),
        )
    })
}

fn strings(value: Option<&Value>, path: &str) -> Result<Vec<String>, Error> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => {
            items.iter().enumerate().map(|(index, item)| text(item, &format!("{path}.{index}"))).collect()
        }
        Some(other) => Err(Error::invalid(
            path,
            &format!("`{}` is not a list", json::text(other)),
            Some("write a list of strings"),
        )),
    }
}

struct Upload<'a, P, S> {
    packages: &'a P,
    rules: &'a PackageRules,
    store: &'a S,
}

impl<P: Packages, S: PackageStore> Upload<'_, P, S> {
    fn working_dir(&self, path: &str, excludes: &[String]) -> Result<String, Error> {
        const FIELD: &str = "runtime_env.working_dir";
        let source = self.open(path, FIELD)?;
        if source.is_directory() {
            let mut all = self.rules.default_excludes.clone();
            all.extend_from_slice(excludes);
            return self.directory(source.as_ref(), path, FIELD, &all, None);
        }
        if !ARCHIVES.iter().any(|ending| path.ends_with(ending)) {
            return Err(Error::invalid(
                FIELD,
                &format!("`{path}` is neither a directory nor an archive that Ray can unpack"),
                Some(&format!("name a directory or a file that ends with {}", ARCHIVES.join(", "))),
            ));
        }
        let digest = hash::archive(source.as_ref(), &source.name())?;
        let ending = if path.ends_with(".tar.gz") || path.ends_with(".tgz") {
            ".tar.gz"
        } else if path.ends_with(".tar.xz") {
            ".tar.xz"
        } else {
            ".zip"
        };
        self.file(source.as_ref(), path, FIELD, &format!("_ray_pkg_{digest}{ending}"))
    }

    fn py_module(&self, path: &str, index: usize, excludes: &[String]) -> Result<String, Error> {
        let field = format!("runtime_env.py_modules.{index}");
        let source = self.open(path, &field)?;
        let name = source.name();
        if source.is_directory() {
            return self.directory(source.as_ref(), path, &field, excludes, Some(&name));
        }
        if name.ends_with(".whl") {
            // As in Ray's client, a wheel keeps its file name, which identifies its content.
            return self.file(source.as_ref(), path, &field, &name);
        }
        if name.ends_with(".py") {
            let mut tree = Tree::file(source.as_ref())?;
            let package = format!("_ray_pkg_{}.zip", hash::tree(source.as_ref(), &mut tree)?);
            return self.tree(source.as_ref(), &tree, path, &field, &package, None);
        }
        Err(Error::invalid(
            &field,
            &format!("`{path}` is not a Python module that can be uploaded"),
            Some("name a directory, a .py file or a .whl file"),
        ))
    }

    fn open(&self, path: &str, field: &str) -> Result<Box<dyn Source>, Error> {
        self.packages.open(path).map_err(|error| match error {
            Error::NotFound(_) => Error::invalid(
                field,
                &format!("`{path}` does not exist on this machine"),
                Some("name an existing path, or a URI"),
            ),
            other => other,
        })
    }

    fn directory(
        &self,
        source: &dyn Source,
        path: &str,
        field: &str,
        excludes: &[String],
        parent: Option<&str>,
    ) -> Result<String, Error> {
        let excludes = Patterns::new(excludes.iter().map(String::as_str));
        let mut tree = Tree::directory(source, &excludes, self.rules.gitignore)?;
        let package = format!("_ray_pkg_{}.zip", hash::tree(source, &mut tree)?);
        self.tree(source, &tree, path, field, &package, parent)
    }

    fn tree(
        &self,
        source: &dyn Source,
        tree: &Tree,
        path: &str,
        field: &str,
        package: &str,
        parent: Option<&str>,
    ) -> Result<String, Error> {
        let size = zip_archive::size(tree, parent);
        self.put(path, field, package, size, &mut |writer| zip_archive::write(source, tree, parent, writer))
    }

    fn file(&self, source: &dyn Source, path: &str, field: &str, package: &str) -> Result<String, Error> {
        let name = source.name();
        let size = source.files()?.iter().map(|file| file.size).sum();
        self.put(path, field, package, size, &mut |writer| {
            each_piece(source, &name, &mut |piece| zip_archive::send(writer, piece))
        })
    }

    fn put(
        &self,
        path: &str,
        field: &str,
        package: &str,
        size: u64,
        write: &mut Writer<'_>,
    ) -> Result<String, Error> {
        let uri = format!("gcs://{package}");
        if self.store.exists(package)? {
            return Ok(uri);
        }
        if size >= self.rules.size_limit {
            return Err(Error::invalid(
                field,
                &format!(
                    "the package of `{path}` has {}, but it must be smaller than {}",
                    mebibytes(size),
                    mebibytes(self.rules.size_limit)
                ),
                Some(
                    "list large files in .gitignore, .rayignore or runtime_env.excludes, or name the URI of a remote zip file",
                ),
            ));
        }
        info!("uploading {path} as {uri} ({})", mebibytes(size));
        self.store.put(package, size, write)?;
        Ok(uri)
    }
}

/// Formats a size in MiB with two decimals. Float formatting would add 20 KiB of code.
fn mebibytes(bytes: u64) -> String {
    let hundredths = (bytes / 1024 * 100 + 512) / 1024;
    format!("{}.{:02} MiB", hundredths / 100, hundredths % 100)
}
