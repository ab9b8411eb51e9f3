//! The content hashes in package names, as Ray's client computes them.

use dagster_ray_sdk::{Error, hex};
use sha1::{Digest, Sha1};

use super::{Source, checksum::Checksum, source::each_piece, tree::Tree};

/// The start value of Ray's exclusive-or: eight characters `0`. Each digest is truncated to this length.
const START: [u8; 8] = *b"00000000";

/// Returns the hash of a directory, computed from all names and contents independent of their order.
///
/// It also sets the checksum and the size of each file in the tree.
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
            // The file may have changed since it was listed.
            entry.file.size = size;
        }
        mix(&mut hash, digest);
    }
    Ok(hex::encode(&hash))
}

/// Returns the hash of an archive that is uploaded unchanged.
pub(super) fn archive(source: &dyn Source, path: &str) -> Result<String, Error> {
    let mut digest = Sha1::new();
    each_piece(source, path, &mut |piece| {
        digest.update(piece);
        Ok(())
    })?;
    Ok(hex::encode(&digest.finalize()))
}

fn mix(hash: &mut [u8; 8], digest: Sha1) {
    for (left, right) in hash.iter_mut().zip(digest.finalize()) {
        *left ^= right;
    }
}
