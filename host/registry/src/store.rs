//! Stores pulled components: one folder for each artifact, named by its digest.
//!
//! The files are not trusted. On each use, the artifact's manifest is checked against the digest of the
//! reference, and the other files against the manifest.

use std::fs::{self, DirBuilder};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use dagster_ray_policy::sha256;
use dagster_ray_policy::signature::signature_path;

use crate::artifact::Artifact;
use crate::error::RegistryError;
use crate::location::ComponentFile;
use crate::reference::{PinnedReference, Reference};

const FOLDER: &str = "pulled";
const ARTIFACT: &str = "artifact.json";
const REFERENCE: &str = "reference";

/// The pulled components of this user.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// A pulled component.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The reference that it was pulled from.
    pub reference: PinnedReference,
    /// The component file.
    pub component: ComponentFile,
    /// The folder of the artifact, which holds nothing else.
    pub folder: PathBuf,
    /// The time of the pull.
    pub pulled_at: SystemTime,
    pub(crate) artifact: Artifact,
}

impl Store {
    /// Opens the store in a cache directory.
    pub fn new(cache: &Path) -> Self {
        Self { folder: cache.join(FOLDER) }
    }

    /// Returns the component with this digest, if it was pulled and its files are unchanged.
    pub fn open(&self, reference: &PinnedReference) -> Option<Pulled> {
        read(&self.folder.join(folder_name(reference)), reference.clone())
    }

    /// Returns the folders of all artifacts, with `None` for a folder that is incomplete or changed.
    pub fn list(&self) -> Vec<(PathBuf, Option<Pulled>)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut all: Vec<_> = entries
            .map(|entry| entry.path())
            .filter(|folder| folder.is_dir())
            .map(|folder| {
                let reference = fs::read_to_string(folder.join(REFERENCE)).ok();
                let pulled = reference
                    .and_then(|text| PinnedReference::parse(text.trim()).ok())
                    .filter(|reference| folder.ends_with(folder_name(reference)))
                    .and_then(|reference| read(&folder, reference));
                (folder, pulled)
            })
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Stores a component. The caller must have checked the content against the digests.
    pub(crate) fn store(
        &self,
        reference: &Reference,
        manifest: &[u8],
        artifact: &Artifact,
        wasm: &[u8],
        names: Option<&str>,
    ) -> Result<Pulled, RegistryError> {
        let name = reference.name();
        let reference = reference.pinned(&sha256(manifest));
        let folder = self.folder.join(folder_name(&reference));
        create_private_folder(&self.folder).map_err(RegistryError::file(&self.folder))?;
        let fresh = tempfile::Builder::new()
            .prefix(".new-")
            .tempdir_in(&self.folder)
            .map_err(RegistryError::file(&self.folder))?;
        let write = |name: &str, content: &[u8]| {
            let path = fresh.path().join(name);
            write(&path, content).map_err(RegistryError::file(path))
        };
        write(ARTIFACT, manifest)?;
        write(REFERENCE, reference.to_string().as_bytes())?;
        write(&format!("{name}.wasm"), wasm)?;
        if let Some(text) = &artifact.manifest {
            write(&format!("{name}.toml"), text.as_bytes())?;
        }
        if let Some(text) = &artifact.signature {
            write(&format!("{name}.toml.minisig"), text.as_bytes())?;
        }
        if let Some(text) = names {
            write(&format!("{name}.names"), text.as_bytes())?;
        }
        // Another process may have stored the same digest in the meantime.
        if self.open(&reference).is_none() {
            if folder.exists() {
                fs::remove_dir_all(&folder).map_err(RegistryError::file(&folder))?;
            }
            let fresh = fresh.keep();
            if let Err(error) = fs::rename(&fresh, &folder) {
                let _ = fs::remove_dir_all(&fresh);
                if self.open(&reference).is_none() {
                    return Err(RegistryError::File { path: folder, source: error });
                }
            }
        }
        self.open(&reference).ok_or_else(|| RegistryError::File {
            path: folder,
            source: std::io::Error::other("the files changed right after they were written"),
        })
    }
}

/// Returns the name of the folder of an artifact.
fn folder_name(reference: &PinnedReference) -> String {
    format!("sha256-{}", reference.sha256())
}

fn read(folder: &Path, reference: PinnedReference) -> Option<Pulled> {
    let manifest = fs::read(folder.join(ARTIFACT)).ok()?;
    if sha256(&manifest) != reference.sha256() {
        return None;
    }
    let artifact = Artifact::read(&reference.to_string(), &manifest).ok()?;
    let path = fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "wasm"))?;
    if sha256(&fs::read(&path).ok()?) != artifact.component.sha256 {
        return None;
    }
    if fs::read_to_string(path.with_extension("toml")).ok() != artifact.manifest {
        return None;
    }
    if fs::read_to_string(signature_path(&path)).ok() != artifact.signature {
        return None;
    }
    let names = fs::read(path.with_extension("names")).ok().map(|content| sha256(&content));
    if names.as_ref() != artifact.names.as_ref().map(|names| &names.sha256) {
        return None;
    }
    let pulled_at =
        folder.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let component = ComponentFile { path, sha256: Some(artifact.component.sha256.clone()) };
    Some(Pulled { reference, component, folder: folder.to_owned(), pulled_at, artifact })
}

fn create_private_folder(folder: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact;

    const NAMES: &str = "sha256 00\nmodule a\n0 f\n";

    fn stored_with(cache: &Path, names: Option<&str>) -> (Store, Pulled) {
        let store = Store::new(cache);
        let texts = artifact::Texts { manifest: Some("id = 'a'"), signature: Some("signed"), names };
        let made = artifact::manifest("a", b"wasm", b"{}", texts);
        let made = serde_json::to_vec(&made).unwrap();
        let artifact = Artifact::read("oci://x/a", &made).unwrap();
        let reference = Reference::parse("oci://ghcr.io/team/a:1").unwrap();
        let pulled = store.store(&reference, &made, &artifact, b"wasm", names).unwrap();
        (store, pulled)
    }

    fn stored(cache: &Path) -> (Store, Pulled) {
        stored_with(cache, Some(NAMES))
    }

    #[test]
    fn a_stored_component_is_found_by_its_digest() {
        let cache = tempfile::tempdir().unwrap();
        let (store, pulled) = stored(cache.path());
        assert!(pulled.component.path.ends_with("a.wasm"));
        assert_eq!(pulled.component.sha256.as_deref(), Some(sha256(b"wasm").as_str()));
        // Only the digest identifies the content; the name may differ.
        let same = Reference::parse("oci://mirror.example/b").unwrap().pinned(pulled.reference.sha256());
        assert_eq!(store.open(&same).unwrap().component, pulled.component);
        let (again, _) = stored(cache.path());
        assert_eq!(again.list().len(), 1);
        assert_eq!(fs::read_to_string(pulled.component.path.with_extension("names")).unwrap(), NAMES);
    }

    #[test]
    fn an_artifact_without_function_names_is_valid() {
        let cache = tempfile::tempdir().unwrap();
        let (store, pulled) = stored_with(cache.path(), None);
        assert!(store.open(&pulled.reference).is_some());
        assert!(!pulled.component.path.with_extension("names").exists());
    }

    #[test]
    fn an_artifact_in_the_folder_of_another_digest_is_listed_as_changed() {
        let cache = tempfile::tempdir().unwrap();
        let (store, pulled) = stored(cache.path());
        let other = pulled.folder.with_file_name(format!("sha256-{}", "0".repeat(64)));
        fs::rename(&pulled.folder, &other).unwrap();
        let listed: Vec<_> =
            store.list().into_iter().map(|(folder, pulled)| (folder, pulled.is_some())).collect();
        assert_eq!(listed, [(other, false)]);
    }

    #[test]
    fn a_changed_component_is_not_used_and_can_be_stored_again() {
        for name in ["a.wasm", "a.toml", "a.toml.minisig", "a.names", ARTIFACT] {
            let cache = tempfile::tempdir().unwrap();
            let (store, pulled) = stored(cache.path());
            fs::write(pulled.folder.join(name), "id = 'a'\n[grants]\nhttp = ['http://evil:80']").unwrap();
            assert!(store.open(&pulled.reference).is_none(), "{name} was changed");
            stored(cache.path());
            assert!(store.open(&pulled.reference).is_some(), "{name} was stored again");
        }
    }
}
