//! Replays the committed inputs, and variants of them, without libFuzzer.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use crate::TARGETS;

/// How many positions of an input are changed, at most.
const POSITIONS: usize = 128;
/// At how many positions of an input each word of the dictionary is inserted, at most.
const INSERTIONS: usize = 16;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Returns the files of a folder, or none if the folder does not exist.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Returns the file names without extensions.
fn names(folder: &Path) -> BTreeSet<String> {
    files(folder).iter().map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// Parses a dictionary: one quoted word on each line, with the escapes `\\`, `\"` and `\xAB`.
/// <https://llvm.org/docs/LibFuzzer.html#dictionaries>
fn dictionary(target: &str) -> Vec<Vec<u8>> {
    let file = folder("dictionaries").join(target).with_extension("dict");
    let lines = fs::read_to_string(&file).unwrap_or_default();
    let words = lines.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    words
        .map(|line| {
            let quoted = line.strip_prefix('"').and_then(|line| line.strip_suffix('"'));
            let mut rest = quoted.unwrap_or_else(|| panic!("{}: {line}", file.display())).as_bytes();
            let mut word = Vec::new();
            while let Some((&first, after)) = rest.split_first() {
                rest = after;
                if first != b'\\' {
                    word.push(first);
                } else if let Some(digits) = rest.strip_prefix(b"x").and_then(|rest| rest.get(..2)) {
                    word.push(u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap());
                    rest = &rest[3..];
                } else {
                    assert!(matches!(rest.first(), Some(b'\\' | b'"')), "{}: {line}", file.display());
                    word.push(rest[0]);
                    rest = &rest[1..];
                }
            }
            word
        })
        .collect()
}

/// Returns at most `most` positions of an input, evenly spaced.
fn positions(input: &[u8], most: usize) -> impl Iterator<Item = usize> {
    (0..input.len()).step_by(input.len().div_ceil(most).max(1))
}

/// Returns the input itself, its beginnings, the input with one changed byte, and with an inserted word.
fn variants(input: &[u8], words: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut all = vec![input.to_vec()];
    for at in positions(input, POSITIONS) {
        all.push(input[..at].to_vec());
        for change in [0x01, 0x20, 0x80] {
            let mut changed = input.to_vec();
            changed[at] ^= change;
            all.push(changed);
        }
    }
    for at in positions(input, INSERTIONS).chain([input.len()]) {
        for word in words {
            all.push([&input[..at], word.as_slice(), &input[at..]].concat());
        }
    }
    all
}

#[test]
fn every_target_holds_for_its_corpus_and_variants_of_it() {
    let mut failed = Vec::new();
    for (target, check) in TARGETS {
        let inputs = files(&folder("corpus").join(target));
        assert!(!inputs.is_empty(), "tests/fuzz/corpus/{target} contains no input");
        let words = dictionary(target);
        for file in inputs {
            let input = fs::read(&file).unwrap();
            for variant in variants(&input, &words) {
                if catch_unwind(|| check(&variant)).is_err() {
                    failed.push(format!("{}: {}", file.display(), variant.escape_ascii()));
                }
            }
        }
    }
    assert!(failed.is_empty(), "a property is violated by a variant of\n{}", failed.join("\n"));
}

#[test]
fn corpus_dictionaries_and_libfuzzer_programs_belong_to_targets() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&folder("corpus")), targets);
    assert_eq!(names(&folder("libfuzzer/fuzz_targets")), targets);
    assert!(names(&folder("dictionaries")).is_subset(&targets));
}
