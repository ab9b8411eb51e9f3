//! The source of local files, behind a trait.

use dagster_ray_sdk::{Error, bindings::packages};

/// The number of bytes of a file that are read at once.
const PIECE: u32 = 1024 * 1024;

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

/// Passes a file's content to `take`, piece by piece.
pub(super) fn each_piece(
    source: &dyn Source,
    path: &str,
    take: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut offset = 0;
    loop {
        let piece = source.read(path, offset, PIECE)?;
        if piece.is_empty() {
            return Ok(());
        }
        offset += piece.len() as u64;
        take(&piece)?;
    }
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
