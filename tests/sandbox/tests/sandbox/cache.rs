//! Compiled code on disk is loaded only if this user wrote it and no other user can change it. Otherwise
//! the component is compiled again, and the call succeeds.
//!
//! Loading wrong code can crash a process, so each load runs in its own process.

use std::fs::{Metadata, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dagster_ray_runtime::compiled_code;
use sandbox_tests::{Subject, call, plan_arguments};
use serde_json::json;

const DIRECTORY: &str = "DAGSTER_RAY_CACHE_DIR";
/// The environment variable with the fixture that the process loads.
const FIXTURE: &str = "CACHE_TEST_FIXTURE";

#[test]
#[ignore = "run by the other tests in a process of its own"]
fn load_and_call() {
    let fixture = std::env::var(FIXTURE).expect("the name of a fixture");
    let subject = Subject::new(
        &fixture,
        "id = 'subject'\n[grants]\nhttp = ['address']\npackages = true\nobjects = ['ours']\nprocesses = { echo = [[]] }\n",
    );
    let backend = subject.backend();
    let arguments = plan_arguments("r");
    let answer = call(&backend, "launcher.plan", &arguments);
    match fixture.as_str() {
        "echo" => assert_eq!(answer.unwrap()["job"]["job"]["submission_id"], "echo-r"),
        _ => assert!(answer.unwrap_err().to_string().contains("unknown attack")),
    }
    assert_eq!(call(&backend, "launcher.check", &json!({"runs": []})).unwrap(), json!([]));
    assert!(compiled_code().iter().all(|code| code.path.starts_with(std::env::var(DIRECTORY).unwrap())));
}

/// Loads and calls a component in its own process, with this folder as the cache.
fn expect_served(cache: &Path, fixture: &str, with: &str) {
    let Output { status, stdout, .. } = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cache::load_and_call", "--ignored"])
        .env(DIRECTORY, cache)
        .env(FIXTURE, fixture)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&stdout);
    assert!(status.success() && text.contains("1 passed"), "{with}: {status}\n{text}");
}

/// A cache with the compiled code of one component.
struct Cache {
    folder: tempfile::TempDir,
}

impl Cache {
    /// Creates a cache and fills it by loading a fixture.
    fn filled(fixture: &str) -> Self {
        let cache = Self { folder: tempfile::tempdir().unwrap() };
        cache.expect_served(fixture, "an empty cache");
        cache
    }

    fn expect_served(&self, fixture: &str, with: &str) {
        expect_served(self.folder.path(), fixture, with);
    }

    /// Returns the path of the only file with compiled code.
    fn file(&self) -> PathBuf {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "cwasm"));
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }

    /// Asserts that the file was compiled again, and that only this user can read and write it.
    fn expect_compiled_again(&self, change: &str, before: &Metadata) {
        self.expect_served("echo", change);
        let now = self.file().symlink_metadata().unwrap();
        assert_ne!(now.ino(), before.ino(), "{change}: the file was loaded");
        assert!(now.is_file(), "{change}");
        let user = self.folder.path().metadata().unwrap().uid();
        assert_eq!((now.uid(), now.mode() & 0o777), (user, 0o600), "{change}");
    }
}

fn metadata(path: &Path) -> Metadata {
    path.symlink_metadata().unwrap()
}

#[test]
fn code_compiled_by_this_user_is_loaded_and_not_rewritten() {
    let cache = Cache::filled("echo");
    let before = metadata(&cache.file());
    assert_eq!(before.mode() & 0o777, 0o600);
    cache.expect_served("echo", "a filled cache");
    let now = metadata(&cache.file());
    assert_eq!((now.ino(), now.mtime_nsec()), (before.ino(), before.mtime_nsec()), "compiled twice");
}

#[test]
fn a_file_of_another_user_is_compiled_again() {
    let cache = Cache::filled("echo");
    let file = cache.file();
    let before = metadata(&file);
    if let Err(error) = chown(&file, Some(before.uid() + 1_000), None) {
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        eprintln!("skipped: a_file_of_another_user_is_compiled_again: only root can give a file away");
        return;
    }
    cache.expect_compiled_again("owned by another user", &before);
}

#[test]
fn a_file_writable_by_others_is_compiled_again() {
    for mode in [0o620, 0o602, 0o666] {
        let cache = Cache::filled("echo");
        let file = cache.file();
        let before = metadata(&file);
        std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        cache.expect_compiled_again(&format!("mode {mode:o}"), &before);
    }
}

#[test]
fn a_symbolic_link_is_not_followed_and_its_target_is_not_changed() {
    let cache = Cache::filled("echo");
    let file = cache.file();
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("code");
    std::fs::rename(&file, &target).unwrap();
    symlink(&target, &file).unwrap();
    let content = std::fs::read(&target).unwrap();
    cache.expect_compiled_again("a symbolic link", &metadata(&file));
    assert_eq!(std::fs::read(&target).unwrap(), content);
    assert_eq!(metadata(&target).mode() & 0o777, 0o600);
}

#[test]
fn a_truncated_file_is_compiled_again() {
    let cache = Cache::filled("echo");
    let whole = std::fs::read(cache.file()).unwrap();
    for length in [0, 1, 64, whole.len() / 3, whole.len() / 2, whole.len() - 4096, whole.len() - 1] {
        let file = cache.file();
        std::fs::write(&file, &whole[..length]).unwrap();
        cache.expect_compiled_again(&format!("{length} of {} bytes", whole.len()), &metadata(&file));
    }
}

#[test]
fn a_file_of_another_format_is_compiled_again() {
    let cache = Cache::filled("echo");
    for content in [&b"\0asm\x0d\0\x01\0"[..], b"\x7fELF", b"#!/bin/sh\n", &[0xff; 1 << 16]] {
        let file = cache.file();
        std::fs::write(&file, content).unwrap();
        cache.expect_compiled_again(&format!("begins with {:?}", &content[..4]), &metadata(&file));
    }
}

#[test]
fn a_file_with_one_flipped_bit_is_compiled_again() {
    let cache = Cache::filled("echo");
    let whole = std::fs::read(cache.file()).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 29) {
        let file = cache.file();
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&file, &bytes).unwrap();
        cache.expect_compiled_again(&format!("byte {at} of {}", whole.len()), &metadata(&file));
    }
}

#[test]
fn code_of_another_component_is_compiled_again() {
    let other = std::fs::read(Cache::filled("hostile").file()).unwrap();
    let cache = Cache::filled("echo");
    let file = cache.file();
    std::fs::write(&file, other).unwrap();
    cache.expect_compiled_again("the code of another component", &metadata(&file));
}

#[test]
fn calls_succeed_when_the_cache_cannot_be_written() {
    let cache = Cache { folder: tempfile::tempdir().unwrap() };
    // No user can create a directory below a file, not even root.
    let file = cache.folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    expect_served(&file.join("cache"), "echo", "a cache below a file");
}
