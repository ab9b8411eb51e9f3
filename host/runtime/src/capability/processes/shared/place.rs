//! The files of one shared program, in a folder that only the user can access.
//!
//! - `<key>.lock`: locked while a program is started or stopped
//! - `<key>/session.json`: locked by the supervisor while the program runs. A file without that lock is stale.
//! - `<key>/lease`: the pipe that users of the program keep open
//! - `<key>/ended.json`: how the program ended
//! - `<key>/supervisor.log`: standard error of the supervisor

use std::ffi::CString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::{Ended, Session};

const POLL: Duration = Duration::from_millis(50);
const KEY_BYTES: usize = 16;
const SESSION: &str = "session.json";

/// The state of a shared program, from its files.
pub(super) enum Presence {
    Absent,
    /// The supervisor has not started the program yet.
    Starting,
    Running(Session),
    Ended(Ended),
}

/// The files of one shared program.
#[derive(Debug, Clone)]
pub(super) struct Place {
    base: PathBuf,
    key: String,
}

impl Place {
    pub(super) fn new(base: &Path, component: &Path, name: &str) -> Self {
        let mut digest = Sha256::new();
        digest.update(component.as_os_str().as_bytes());
        digest.update([0]);
        digest.update(name.as_bytes());
        // Containers with a common `/tmp` share no program, because they cannot reach each other's ports.
        if let Ok(network) = fs::read_link("/proc/self/ns/net") {
            digest.update([0]);
            digest.update(network.as_os_str().as_bytes());
        }
        let key = digest.finalize().iter().take(KEY_BYTES).map(|byte| format!("{byte:02x}")).collect();
        Self { base: base.to_owned(), key }
    }

    fn folder(&self) -> PathBuf {
        self.base.join(&self.key)
    }

    fn lock_file(&self) -> PathBuf {
        self.base.join(format!("{}.lock", self.key))
    }

    pub(super) fn session(&self) -> PathBuf {
        self.folder().join(SESSION)
    }

    pub(super) fn lease(&self) -> PathBuf {
        self.folder().join("lease")
    }

    pub(super) fn ended(&self) -> PathBuf {
        self.folder().join("ended.json")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder().join("supervisor.log")
    }

    /// Locks the program against being started or stopped by another process. `None` if it is locked for longer
    /// than `wait`. The lock ends when the file is dropped.
    pub(super) fn lock(&self, wait: Duration) -> io::Result<Option<File>> {
        let deadline = Instant::now() + wait;
        loop {
            create_private(&self.base)?;
            match open_private(OpenOptions::new().create(true).truncate(false).write(true), &self.lock_file())
            {
                Ok(file) => match file.try_lock() {
                    // Another process may have removed the file between opening and locking it.
                    Ok(()) if is_same_file(&file, &self.lock_file()) => return Ok(Some(file)),
                    Ok(()) | Err(TryLockError::WouldBlock) => {}
                    Err(TryLockError::Error(error)) => return Err(error),
                },
                // Another process removed the empty folder.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }

    pub(super) fn look(&self) -> Presence {
        if is_locked(&self.session()) {
            let session = fs::read(self.session()).ok().and_then(|text| serde_json::from_slice(&text).ok());
            return session.map_or(Presence::Starting, Presence::Running);
        }
        let ended = fs::read(self.ended()).ok().and_then(|text| serde_json::from_slice(&text).ok());
        ended.map_or(Presence::Absent, Presence::Ended)
    }

    /// Removes the files of an earlier program, and creates an empty folder.
    pub(super) fn prepare(&self) -> io::Result<()> {
        remove_folder(&self.folder())?;
        create_private(&self.folder())
    }

    /// Creates the session file and locks it. An error if another supervisor has locked it.
    pub(super) fn lock_session(&self) -> io::Result<File> {
        let file = open_private(OpenOptions::new().create_new(true).write(true), &self.session())?;
        // A process that looks at the session locks the file for a moment.
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(POLL),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns whether this is the session file, and not one that was removed since.
    pub(super) fn is_session(&self, file: &File) -> bool {
        is_same_file(file, &self.session())
    }

    /// Creates the lease, and opens its end for reading.
    pub(super) fn create_lease(&self) -> io::Result<File> {
        let path = CString::new(self.lease().as_os_str().as_bytes())?;
        // SAFETY: the path is a string that ends with NUL, and outlives the call.
        if unsafe { libc::mkfifo(path.as_ptr(), 0o600) } != 0 {
            return Err(io::Error::last_os_error());
        }
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(self.lease())
    }

    /// Opens the lease. While the returned file is open, the program is in use.
    pub(super) fn open_lease(&self) -> io::Result<File> {
        OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(self.lease())
    }

    pub(super) fn write_ended(&self, ended: &Ended) -> io::Result<()> {
        let new = self.folder().join("ended.new");
        fs::write(&new, serde_json::to_vec(ended)?)?;
        fs::rename(new, self.ended())
    }

    /// Updates the times of the files, so that a cleanup of old files in `/tmp` leaves them.
    pub(super) fn touch(&self) {
        for file in [self.base.clone(), self.folder(), self.lock_file(), self.session(), self.lease()] {
            let Ok(path) = CString::new(file.as_os_str().as_bytes()) else { continue };
            // SAFETY: the path is a string that ends with NUL, and outlives the call. Without times, the
            // current time is used.
            unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), std::ptr::null(), 0) };
        }
    }

    /// Removes all files, and the user's folder if it is empty. The caller holds the lock.
    pub(super) fn remove(&self, _lock: &File) {
        let _ = remove_folder(&self.folder());
        let _ = fs::remove_file(self.lock_file());
        let _ = fs::remove_dir(&self.base);
    }

    /// Returns how many programs run with files in the user's folder.
    pub(super) fn count(&self) -> usize {
        let entries = fs::read_dir(&self.base).into_iter().flatten().flatten();
        entries.filter(|entry| is_locked(&entry.path().join(SESSION))).count()
    }
}

/// Returns whether a supervisor has locked a session file.
fn is_locked(session: &Path) -> bool {
    File::open(session).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn open_private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

fn is_same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Creates a folder that only this user can access, or checks that an existing one is such a folder.
fn create_private(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = match fs::symlink_metadata(folder) {
        // Another process removed the empty folder. The caller tries again.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if found.is_dir() && found.uid() == crate::user::effective() && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "{} must be a directory that only this user can access (mode 0700): remove it, or have its owner remove it",
            folder.display()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_folder_that_others_can_access_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (open, link, good) =
            (folder.path().join("open"), folder.path().join("link"), folder.path().join("good"));
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        create_private(&good).unwrap();
        symlink(&good, &link).unwrap();
        for refused in [&open, &link] {
            let error = create_private(refused).unwrap_err().to_string();
            assert!(error.contains("0700"), "{error}");
        }
        assert_eq!(fs::metadata(&good).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_session_file_without_a_lock_is_stale() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(&folder.path().join("base"), Path::new("/x.wasm"), "head");
        let lock = place.lock(Duration::ZERO).unwrap().unwrap();
        assert!(place.lock(Duration::ZERO).unwrap().is_none());
        place.prepare().unwrap();
        let session = place.lock_session().unwrap();
        assert!(matches!(place.look(), Presence::Starting));
        // The process id belongs to a live process that is not the supervisor.
        let text = format!(
            r#"{{"supervisor": {0}, "program": {0}, "component": "/x.wasm", "name": "head", "started_ms": 0}}"#,
            std::process::id()
        );
        fs::write(place.session(), text).unwrap();
        assert!(matches!(place.look(), Presence::Running(_)));
        drop(session);
        assert!(matches!(place.look(), Presence::Absent));
        place.remove(&lock);
        assert!(!folder.path().join("base").exists());
    }
}
