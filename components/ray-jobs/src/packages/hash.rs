//! The hashes by which packages are named.

use dagster_ray_sdk::Error;
use sha1::{Digest, Sha1};

use super::{Source, tree::Tree, zipped::Checksum};

/// How much of a file is held at once.
const PIECE: u32 = 1024 * 1024;

/// Where Ray's exclusive-or starts: eight characters `0`, which also cut each digest to eight
/// bytes.
const START: [u8; 8] = *b"00000000";

/// Hands on a file's content, piece by piece.
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

/// The hash of a directory: that of the name and the content of everything in it, in any order.
/// The files' checksums are filled in on the way.
pub(super) fn tree(source: &dyn Source, tree: &mut Tree) -> Result<String, Error> {
    let mut hash = START;
    for directory in &tree.directories {
        mix(&mut hash, Sha1::new_with_prefix(directory));
    }
    for entry in &mut tree.entries {
        let mut digest = Sha1::new_with_prefix(&entry.file.path);
        if !entry.file.empty_directory {
            let mut checksum = Checksum::default();
            let mut size = 0;
            each_piece(source, &entry.file.path, &mut |piece| {
                digest.update(piece);
                checksum.update(piece);
                size += piece.len() as u64;
                Ok(())
            })?;
            entry.crc = checksum.value();
            // What was read counts, should the file have grown since it was listed.
            entry.file.size = size;
        }
        mix(&mut hash, digest);
    }
    Ok(hex(&hash))
}

/// The hash of an archive that goes up as it is.
pub(super) fn archive(source: &dyn Source, path: &str) -> Result<String, Error> {
    let mut digest = Sha1::new();
    each_piece(source, path, &mut |piece| {
        digest.update(piece);
        Ok(())
    })?;
    Ok(hex(&digest.finalize()))
}

fn mix(hash: &mut [u8; 8], digest: Sha1) {
    for (left, right) in hash.iter_mut().zip(digest.finalize()) {
        *left ^= right;
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
