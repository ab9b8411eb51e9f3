//! `dagster-ray:host/packages`: read-only access to directories and files to upload.
//!
//! Only paths that the configuration names can be opened. Symbolic links that leave them are denied.

use std::io::SeekFrom;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dagster_ray_policy::Policy;
use dagster_ray_policy::capability::Capability;
use dagster_ray_policy::capability::packages::CAPABILITY;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use wasmtime::component::{Linker, Resource};

use self::bindings::dagster_ray::host::packages::{self, File, Host, HostSource};
use super::{CallContext, CallState, HostCapability, Uses, View, denied};
use crate::model::Error;

#[allow(missing_docs, unreachable_pub, dead_code, clippy::all)]
mod bindings {
    crate::wit::generate!(
        "package dagster-ray:runtime; world packages { import dagster-ray:host/packages@0.1.0; }",
        with: {
            "dagster-ray:host/model": crate::model,
            "dagster-ray:host/packages.source": crate::capability::packages::Source,
        }
    );
}

/// Maximum number of bytes that one read returns.
const MAX_READ_BYTES: u64 = 1 << 20;
/// Maximum number of files in one directory tree.
const MAX_FILES: usize = 200_000;
/// Maximum number of entries in one directory tree: files, directories and links.
const MAX_ENTRIES: usize = 2 * MAX_FILES;

/// An opened directory or file.
pub struct Source {
    root: PathBuf,
    directory: bool,
}

/// The state of one call.
pub(crate) struct PackagesState {
    policy: Arc<Policy>,
}

impl HostCapability for PackagesState {
    const GRANT: Option<&'static Capability> = Some(&CAPABILITY);

    fn new(context: &CallContext<'_>) -> Self {
        Self { policy: context.policy.clone() }
    }

    fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
        packages::add_to_linker::<CallState, Uses<Self>>(linker, CallState::view)
    }
}

impl Host for View<'_, PackagesState> {}

impl HostSource for View<'_, PackagesState> {
    async fn open(&mut self, path: String) -> wasmtime::Result<Result<Resource<Source>, Error>> {
        let root = match Path::new(&path).canonicalize() {
            Ok(root) => root,
            Err(error) => return Ok(Err(Error::NotFound(format!("{path}: {error}")))),
        };
        if !self.state.policy.directories.iter().any(|allowed| root.starts_with(allowed)) {
            return Ok(Err(denied(&CAPABILITY, path, CAPABILITY.example)));
        }
        let directory = root.is_dir();
        Ok(Ok(self.table.push(Source { root, directory })?))
    }

    async fn is_directory(&mut self, source: Resource<Source>) -> wasmtime::Result<bool> {
        Ok(self.table.get(&source)?.directory)
    }

    async fn name(&mut self, source: Resource<Source>) -> wasmtime::Result<String> {
        let root = &self.table.get(&source)?.root;
        Ok(root.file_name().map_or_else(|| "package".into(), |name| name.to_string_lossy().into_owned()))
    }

    async fn files(&mut self, source: Resource<Source>) -> wasmtime::Result<Result<Vec<File>, Error>> {
        let Source { root, directory } = self.table.get(&source)?;
        let (root, directory) = (root.clone(), *directory);
        let listed = tokio::task::spawn_blocking(move || list(&root, directory)).await?;
        Ok(listed)
    }

    async fn read(
        &mut self,
        source: Resource<Source>,
        path: String,
        offset: u64,
        length: u32,
    ) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        let source = self.table.get(&source)?;
        let requested = if source.directory { source.root.join(&path) } else { source.root.clone() };
        let real = match requested.canonicalize() {
            Ok(real) => real,
            Err(error) => return Ok(Err(Error::NotFound(format!("{path}: {error}")))),
        };
        if !real.starts_with(&source.root) {
            let grant = format!("{}, and a path inside the directory", CAPABILITY.example);
            return Ok(Err(denied(&CAPABILITY, path, grant)));
        }
        Ok(read_range(&real, offset, u64::from(length).min(MAX_READ_BYTES))
            .await
            .map_err(|error| Error::Other(format!("{}: {error}", real.display()))))
    }

    async fn drop(&mut self, source: Resource<Source>) -> wasmtime::Result<()> {
        self.table.delete(source)?;
        Ok(())
    }
}

async fn read_range(path: &Path, offset: u64, length: u64) -> std::io::Result<Vec<u8>> {
    let mut file = tokio::fs::File::open(path).await?;
    file.seek(SeekFrom::Start(offset)).await?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

fn list(root: &Path, directory: bool) -> Result<Vec<File>, Error> {
    if directory {
        return walk(root, MAX_ENTRIES);
    }
    let name = root.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Ok(vec![entry(root, name)?])
}

fn entry(path: &Path, name: String) -> Result<File, Error> {
    let metadata = path.metadata().map_err(|error| Error::Other(format!("{}: {error}", path.display())))?;
    Ok(File {
        path: name,
        size: if metadata.is_dir() { 0 } else { metadata.len() },
        mode: metadata.permissions().mode() & 0o7777,
        empty_directory: metadata.is_dir(),
    })
}

/// Lists the files of a directory tree, by their paths. Links to directories inside the tree are followed.
fn walk(root: &Path, max_entries: usize) -> Result<Vec<File>, Error> {
    let mut walk = Walk { root, max_entries, entries: 0, ancestors: Vec::new(), found: Vec::new() };
    walk.directory(root, root.to_owned())?;
    walk.found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(walk.found)
}

struct Walk<'a> {
    root: &'a Path,
    max_entries: usize,
    /// The entries seen so far, with those that are not listed.
    entries: usize,
    /// The real paths of the current directory and of those through which it was reached.
    ancestors: Vec<PathBuf>,
    found: Vec<File>,
}

impl Walk<'_> {
    fn directory(&mut self, directory: &Path, real: PathBuf) -> Result<(), Error> {
        let unreadable = |error: std::io::Error| Error::Other(format!("{}: {error}", directory.display()));
        let root = self.root;
        let too_many =
            |limit: usize, what: &str| Error::Other(format!("{}: more than {limit} {what}", root.display()));
        let mut empty = true;
        self.ancestors.push(real);
        for child in std::fs::read_dir(directory).map_err(unreadable)? {
            empty = false;
            self.entries += 1;
            // Links can make directories without files appear on any number of paths.
            if self.entries > self.max_entries {
                return Err(too_many(self.max_entries, "entries, with those behind links"));
            }
            let path = child.map_err(unreadable)?.path();
            // Skip links that are dangling, leave the root, or lead back to a directory on this path.
            let real = match path.canonicalize() {
                Ok(real) if real.starts_with(root) && !self.ancestors.contains(&real) => real,
                _ => continue,
            };
            if path.is_dir() {
                self.directory(&path, real)?;
            } else if path.is_file() {
                self.found.push(entry(&path, relative(root, &path))?);
            }
            if self.found.len() > MAX_FILES {
                return Err(too_many(MAX_FILES, "files"));
            }
        }
        self.ancestors.pop();
        if empty && directory != root {
            self.found.push(entry(directory, relative(root, directory))?);
        }
        Ok(())
    }
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_that_lead_in_a_circle_are_followed_once() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for (name, next) in [("a", "b"), ("b", "c"), ("c", "b")] {
            std::fs::create_dir(root.join(name)).unwrap();
            std::fs::write(root.join(name).join("f"), "").unwrap();
            symlink(root.join(next), root.join(name).join(next)).unwrap();
        }
        let paths: Vec<_> = list(&root, true).unwrap().into_iter().map(|file| file.path).collect();
        assert_eq!(paths, ["a/b/c/f", "a/b/f", "a/f", "b/c/f", "b/f", "c/b/f", "c/f"]);
    }

    #[test]
    fn the_number_of_paths_behind_links_is_limited() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for level in 0..30 {
            let directory = root.join(level.to_string());
            std::fs::create_dir(&directory).unwrap();
            for name in ["x", "y"] {
                symlink(root.join((level + 1).to_string()), directory.join(name)).unwrap();
            }
        }
        let Err(Error::Other(text)) = walk(&root, 1_000) else { panic!("every path was followed") };
        assert!(text.contains("more than 1000 entries"), "{text}");
    }
}
