//! Where files come from, behind a trait.

use dagster_ray_sdk::{Error, bindings::packages};

/// A file in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path below the directory, with `/` between the parts.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its permission bits, such as `0o644`.
    pub mode: u32,
    /// Whether it is a directory without anything in it.
    pub empty_directory: bool,
}

/// A directory, or a single file.
pub trait Source {
    /// Whether it is a directory.
    fn is_directory(&self) -> bool;

    /// The last part of its path.
    fn name(&self) -> String;

    /// Every file below it. A single file is listed under its own name.
    fn files(&self) -> Result<Vec<File>, Error>;

    /// Up to `length` bytes of a file from `offset`. An empty result is its end.
    fn read(&self, path: &str, offset: u64, length: u32) -> Result<Vec<u8>, Error>;
}

/// Something that opens local paths.
pub trait Packages {
    /// Opens what a local path names.
    fn open(&self, path: &str) -> Result<Box<dyn Source>, Error>;
}

/// The directories that the host lends.
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
