//! Selects the files of a directory that a package contains.

use dagster_ray_sdk::{Error, warn};

use super::{File, Source, ignore::Patterns, source::each_piece};

/// A file or an empty directory.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Path, size and mode.
    pub(super) file: File,
    /// The CRC-32 of the content. The hash of the package is computed with it.
    pub(super) crc: u32,
}

/// The contents of a package.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    /// The directories that are not empty, or were not before excludes applied. The root is `.`.
    pub(super) directories: Vec<String>,
    /// Files and empty directories.
    pub(super) entries: Vec<Entry>,
}

impl Tree {
    /// Returns the tree of a single file.
    pub(super) fn file(source: &dyn Source) -> Result<Self, Error> {
        let entries = source.files()?.into_iter().map(|file| Entry { file, crc: 0 }).collect();
        Ok(Self { directories: Vec::new(), entries })
    }

    /// Returns the tree of a directory, without the files that patterns and ignore files exclude.
    pub(super) fn directory(
        source: &dyn Source,
        excludes: &Patterns,
        gitignore: bool,
    ) -> Result<Self, Error> {
        let mut files = source.files()?;
        // The files of one directory become adjacent.
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let mut walk = Walk {
            source,
            gitignore,
            patterns: vec![(String::new(), excludes.clone())],
            tree: Self::default(),
        };
        walk.directory("", &files)?;
        if walk.tree.entries.is_empty() {
            warn!("the package of {} is empty: the directory is empty or fully excluded", source.name());
        }
        Ok(walk.tree)
    }
}

struct Walk<'a> {
    source: &'a dyn Source,
    gitignore: bool,
    /// Patterns with the directory of each: empty for the root, or with a trailing slash.
    patterns: Vec<(String, Patterns)>,
    tree: Tree,
}

impl Walk<'_> {
    /// Walks a directory. `base` is empty for the root, or has a trailing slash.
    fn directory(&mut self, base: &str, files: &[File]) -> Result<(), Error> {
        let outer = self.patterns.len();
        let names: &[&str] = if self.gitignore { &[".gitignore", ".rayignore"] } else { &[".rayignore"] };
        for name in names {
            let path = format!("{base}{name}");
            if let Ok(found) = files.binary_search_by(|file| file.path.as_str().cmp(&path))
                && !files[found].empty_directory
            {
                let text = self.text(&path)?;
                self.patterns.push((base.to_owned(), Patterns::new(text.lines())));
            }
        }
        if !self.is_excluded(base.trim_end_matches('/')) {
            self.tree.directories.push(if base.is_empty() {
                ".".to_owned()
            } else {
                base.trim_end_matches('/').to_owned()
            });
            self.children(base, files)?;
        }
        self.patterns.truncate(outer);
        Ok(())
    }

    fn children(&mut self, base: &str, files: &[File]) -> Result<(), Error> {
        let mut at = 0;
        while let Some(file) = files.get(at) {
            let below = &file.path[base.len()..];
            match below.find('/') {
                Some(slash) => {
                    let child = file.path[..=base.len() + slash].to_owned();
                    let count = files[at..].partition_point(|file| file.path.starts_with(&child));
                    self.directory(&child, &files[at..at + count])?;
                    at += count;
                }
                None => {
                    if !self.is_excluded(&file.path) {
                        self.tree.entries.push(Entry { file: file.clone(), crc: 0 });
                    }
                    at += 1;
                }
            }
        }
        Ok(())
    }

    fn is_excluded(&self, path: &str) -> bool {
        self.patterns.iter().any(|(base, patterns)| {
            let relative = path.strip_prefix(base.as_str()).unwrap_or("");
            patterns.excludes(if relative.is_empty() { "." } else { relative })
        })
    }

    fn text(&self, path: &str) -> Result<String, Error> {
        let mut bytes = Vec::new();
        each_piece(self.source, path, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
