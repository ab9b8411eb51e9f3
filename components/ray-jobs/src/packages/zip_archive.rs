//! Writes zip files while they are uploaded.
//!
//! Files are stored uncompressed, as by Ray's client, so that both clients make equivalent packages. The size
//! of a package is therefore known before the first byte is sent, and can be checked against the limit.

use std::io::Write;

use dagster_ray_sdk::{Error, error};

use super::{
    Source,
    checksum::Checksum,
    source::each_piece,
    tree::{Entry, Tree},
};

// Sizes of the zip format's records without names and contents, in bytes.
const LOCAL: u64 = 30;
const CENTRAL: u64 = 46;
const END: u64 = 22;
const END_64: u64 = 56 + 20;
/// Archives with this many files or more need a zip64 end record.
const MANY: usize = 0xFFFF;
/// The flag for UTF-8 names.
const FLAGS: u16 = 1 << 11;
/// 1980-01-01 for all files: modification times do not belong to the content.
const DATE: u16 = (1 << 5) | 1;

/// Returns the size of the tree's zip file in bytes.
pub(super) fn size(tree: &Tree, parent: Option<&str>) -> u64 {
    let files: u64 = tree
        .entries
        .iter()
        .map(|entry| LOCAL + CENTRAL + 2 * name(entry, parent).len() as u64 + entry.file.size)
        .sum();
    files + END + if tree.entries.len() >= MANY { END_64 } else { 0 }
}

/// Writes the zip file of a tree whose checksums are set by [`super::hash::tree`].
///
/// With a `parent`, all entries are placed in a directory of that name.
pub(super) fn write(
    source: &dyn Source,
    tree: &Tree,
    parent: Option<&str>,
    writer: &mut dyn Write,
) -> Result<(), Error> {
    let mut directory = Vec::new();
    let mut offset = 0_u64;
    for entry in &tree.entries {
        let name = name(entry, parent);
        let common = common(entry, &name)?;
        let mut header = b"PK\x03\x04".to_vec();
        header.extend_from_slice(&common);
        header.extend_from_slice(name.as_bytes());
        send(writer, &header)?;
        if !entry.file.empty_directory {
            content(source, entry, writer)?;
        }
        central(&mut directory, &common, entry, &name, to_u32(offset)?);
        offset += header.len() as u64 + entry.file.size;
    }
    let size = directory.len() as u64;
    let count = tree.entries.len();
    if count >= MANY {
        end_64(&mut directory, count as u64, size, offset);
    }
    directory.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    let shown = u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes();
    directory.extend_from_slice(&shown);
    directory.extend_from_slice(&shown);
    directory.extend_from_slice(&to_u32(size)?.to_le_bytes());
    directory.extend_from_slice(&to_u32(offset)?.to_le_bytes());
    directory.extend_from_slice(&[0, 0]);
    send(writer, &directory)
}

/// Writes a piece of a package.
pub(super) fn send(writer: &mut dyn Write, bytes: &[u8]) -> Result<(), Error> {
    writer.write_all(bytes).map_err(|broken| error::from_io(broken, "sending a package"))
}

fn name(entry: &Entry, parent: Option<&str>) -> String {
    let slash = if entry.file.empty_directory { "/" } else { "" };
    match parent {
        Some(parent) => format!("{parent}/{}{slash}", entry.file.path),
        None => format!("{}{slash}", entry.file.path),
    }
}

/// Returns the fields that the local and the central header of a file have in common.
fn common(entry: &Entry, name: &str) -> Result<Vec<u8>, Error> {
    let length = u16::try_from(name.len())
        .map_err(|_| Error::Other(format!("the path `{name}` is too long for a zip file")))?;
    let size = to_u32(entry.file.size)?.to_le_bytes();
    let mut fields = Vec::with_capacity(26);
    fields.extend_from_slice(&20_u16.to_le_bytes());
    fields.extend_from_slice(&FLAGS.to_le_bytes());
    // Method "stored", time 00:00.
    fields.extend_from_slice(&[0; 4]);
    fields.extend_from_slice(&DATE.to_le_bytes());
    fields.extend_from_slice(&entry.crc.to_le_bytes());
    fields.extend_from_slice(&size);
    fields.extend_from_slice(&size);
    fields.extend_from_slice(&length.to_le_bytes());
    fields.extend_from_slice(&[0, 0]);
    Ok(fields)
}

fn central(directory: &mut Vec<u8>, common: &[u8], entry: &Entry, name: &str, offset: u32) {
    const UNIX: u8 = 3;
    let (kind, dos) = if entry.file.empty_directory { (0o040_000, 0x10) } else { (0o100_000, 0) };
    let attributes = ((kind | (entry.file.mode & 0o7777)) << 16) | dos;

    directory.extend_from_slice(b"PK\x01\x02");
    directory.extend_from_slice(&[20, UNIX]);
    directory.extend_from_slice(common);
    // No comment, disk 0, no internal attributes.
    directory.extend_from_slice(&[0; 6]);
    directory.extend_from_slice(&attributes.to_le_bytes());
    directory.extend_from_slice(&offset.to_le_bytes());
    directory.extend_from_slice(name.as_bytes());
}

fn end_64(directory: &mut Vec<u8>, count: u64, size: u64, offset: u64) {
    directory.extend_from_slice(b"PK\x06\x06");
    directory.extend_from_slice(&44_u64.to_le_bytes());
    directory.extend_from_slice(&[45, 3, 45, 0]);
    directory.extend_from_slice(&[0; 8]);
    for field in [count, count, size, offset] {
        directory.extend_from_slice(&field.to_le_bytes());
    }
    directory.extend_from_slice(b"PK\x06\x07\0\0\0\0");
    directory.extend_from_slice(&(offset + size).to_le_bytes());
    directory.extend_from_slice(&1_u32.to_le_bytes());
}

fn content(source: &dyn Source, entry: &Entry, writer: &mut dyn Write) -> Result<(), Error> {
    let mut checksum = Checksum::default();
    let mut size = 0;
    let changed =
        || Error::Conflict(format!("`{}` changed while it was packaged; try again", entry.file.path));
    each_piece(source, &entry.file.path, &mut |piece| {
        checksum.update(piece);
        size += piece.len() as u64;
        // More bytes than `content-length` would break the request without a useful error.
        if size > entry.file.size {
            return Err(changed());
        }
        send(writer, piece)
    })?;
    if size != entry.file.size || checksum.value() != entry.crc { Err(changed()) } else { Ok(()) }
}

fn to_u32(number: u64) -> Result<u32, Error> {
    u32::try_from(number)
        .map_err(|_| Error::Other("the package has 4 GiB or more, which a zip file cannot hold".to_owned()))
}
