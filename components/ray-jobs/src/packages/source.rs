//! The source of local files, behind a trait.

use dagster_ray_sdk::{Error, bindings::packages};

/// A file in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The path relative to the directory, with `/` as separator.
    pub path: String,
    /// The size in bytes.
    pub size: u64,
    /// The permission bits, such as `0o644`.
    pub mode: u32,
    /// Whether this is an empty directory.
    pub empty_directory: bool,
}

/// A directory, or a single file.
pub trait Source {
    /// Returns whether the source is a directory.
    fn is_directory(&self) -> bool;

    /// Returns the last part of the path.
    fn name(&self) -> String;

    /// Returns every file below the directory. A single file is listed under its own name.
    fn files(&self) -> Result<Vec<File>, Error>;

    /// Reads up to `length` bytes of a file from `offset`. An empty result means the end of the file.
    fn read(&self, path: &str, offset: u64, length: u32) -> Result<Vec<u8>, Error>;
}

/// Opens local paths.
pub trait Packages {
    /// Opens a local directory or file.
    fn open(&self, path: &str) -> Result<Box<dyn Source>, Error>;
}

/// The `packages` import of the host, restricted to the granted directories.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostPackages;

impl Packages for HostPackages {
    fn open(&self, path: &str) -> Result<Box<dyn Source>, Error> {
        Ok(Box::new(packages::Source::open(path)?))
    }
}

impl Source for packages::Source {
    fn is_directory(&self) -> bool {
        packages::Source::is_directory(self)
    }

    fn name(&self) -> String {
        packages::Source::name(self)
    }

    fn files(&self) -> Result<Vec<File>, Error> {
        let files = packages::Source::files(self)?;
        Ok(files
            .into_iter()
            .map(|file| File {
                path: file.path,
                size: file.size,
                mode: file.mode,
                empty_directory: file.empty_directory,
            })
            .collect())
    }

    fn read(&self, path: &str, offset: u64, length: u32) -> Result<Vec<u8>, Error> {
        packages::Source::read(self, path, offset, length)
    }
}
