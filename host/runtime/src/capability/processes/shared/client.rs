//! The host's side: starts supervisors and holds leases.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::place::{Place, Presence};
use super::{Ended, Request, Session, SharedProgramOptions};
use crate::capability::processes::programs::Key;
use crate::model::{Error, RetryHint};

/// How long to wait for another process that starts or stops the program.
const LOCK_WAIT: Duration = Duration::from_secs(60);
/// How long a supervisor may take to start the program.
const START_WAIT: Duration = Duration::from_secs(30);
/// How long a program may take to end after the time that `stop` allows it.
const STOP_WAIT: Duration = Duration::from_secs(20);
/// How long to wait for the files of a program that has just ended.
const END_WAIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);
/// The maximum number of programs that a user shares.
const MAX_PROGRAMS: usize = 64;
/// The maximum length of a token.
const MAX_TOKEN: usize = 200;

/// The shared programs that this process uses.
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Inner>);

#[derive(Default)]
struct Inner {
    options: Option<SharedProgramOptions>,
    leases: Mutex<HashMap<Key, Lease>>,
}

/// A program's lease, held open by this process.
struct Lease {
    pipe: File,
    /// The supervisor at the other end, by its process id and start time.
    of: (u32, u64),
}

impl Session {
    fn id(&self) -> (u32, u64) {
        (self.supervisor, self.started_ms)
    }
}

impl Shared {
    pub(crate) fn new(options: Option<SharedProgramOptions>) -> Self {
        Self(Arc::new(Inner { options, leases: Mutex::default() }))
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<Key, Lease>> {
        self.0.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, key: &Key) -> Option<Place> {
        self.0.options.as_ref().map(|options| Place::new(&options.folder, &key.0, &key.1))
    }

    /// Uses the program under a name, and starts it if it does not run. Returns its process id. Blocks while
    /// another process starts or stops the program.
    pub(crate) fn share(
        &self,
        key: Key,
        line: &Command,
        program: &str,
        linger: Duration,
    ) -> Result<u32, Error> {
        let Some(options) = &self.0.options else {
            return Err(Error::Unsupported(
                "this process cannot start programs that outlive it: use the Python package, or start the program yourself"
                    .to_owned(),
            ));
        };
        let place = Place::new(&options.folder, &key.0, &key.1);
        if let Presence::Running(session) = place.look()
            && self.leases().get(&key).is_some_and(|lease| lease.of == session.id())
        {
            return Ok(session.program);
        }
        let failed = |error: io::Error| {
            Error::Other(format!("the program {program} ({}) cannot be shared: {error}", key.1))
        };
        let lock = place.lock(LOCK_WAIT).map_err(failed)?.ok_or_else(|| {
            Error::Unavailable(RetryHint {
                reason: format!(
                    "another process has been starting or stopping {} for {} s",
                    key.1,
                    LOCK_WAIT.as_secs()
                ),
                after_ms: None,
                maybe_applied: false,
            })
        })?;
        let (session, pipe) = match join(&place) {
            Some(joined) => joined,
            None if place.count() >= MAX_PROGRAMS => {
                return Err(Error::Other(format!(
                    "this user already shares {MAX_PROGRAMS} programs, which is the limit: stop one"
                )));
            }
            None => start(&place, &request(options, &key, line, linger), &options.supervisor)
                .and_then(|session| Ok((session, place.open_lease()?)))
                .map_err(failed)?,
        };
        drop(lock);
        let program = session.program;
        self.leases().insert(key, Lease { pipe, of: session.id() });
        Ok(program)
    }

    /// Keeps a program running for a time, or ends that time if it is zero.
    pub(crate) fn hold(&self, key: &Key, token: &str, time: Duration) -> Result<(), Error> {
        if token.is_empty() || token.len() > MAX_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Other(format!(
                "{token:?} is not a token: write at most {MAX_TOKEN} visible ASCII characters"
            )));
        }
        self.send(key, &format!("hold {} {token}\n", time.as_millis()))
    }

    /// Returns how a program runs or ended, or `None` if it was never started.
    pub(crate) fn look(&self, key: &Key) -> Option<Result<u32, (Option<i32>, String)>> {
        match self.place(key)?.look() {
            Presence::Absent | Presence::Starting => None,
            Presence::Running(session) => Some(Ok(session.program)),
            Presence::Ended(Ended { exit_code, output }) => Some(Err((exit_code, output))),
        }
    }

    /// Stops a program for all its users. `None` if it does not run. Blocks until it has ended.
    pub(crate) fn stop(&self, key: &Key, grace: Duration) -> Option<(Option<i32>, String)> {
        let place = self.place(key)?;
        let Presence::Running(session) = place.look() else { return None };
        let _ = self.send(key, &format!("stop {}\n", grace.as_millis()));
        let deadline = Instant::now() + grace + STOP_WAIT;
        loop {
            match place.look() {
                Presence::Running(found) if found.id() == session.id() && Instant::now() < deadline => {}
                Presence::Ended(Ended { exit_code, output }) => break Some((exit_code, output)),
                _ => break Some((None, String::new())),
            }
            std::thread::sleep(POLL);
        }
    }

    /// Ends the use of all programs by this process.
    pub(crate) fn leave_all(&self) {
        self.leases().clear();
    }

    fn send(&self, key: &Key, message: &str) -> Result<(), Error> {
        let absent = |_| Error::NotFound(format!("no program is shared under the name {}", key.1));
        let place = self.place(key).ok_or_else(|| absent(io::ErrorKind::NotFound.into()))?;
        let Presence::Running(session) = place.look() else {
            return Err(absent(io::ErrorKind::NotFound.into()));
        };
        // Lines of up to 4096 bytes (PIPE_BUF) are written whole or not at all.
        if let Some(lease) = self.leases().get_mut(key).filter(|lease| lease.of == session.id()) {
            return lease.pipe.write_all(message.as_bytes()).map_err(absent);
        }
        place.open_lease().and_then(|mut pipe| pipe.write_all(message.as_bytes())).map_err(absent)
    }
}

fn request(options: &SharedProgramOptions, key: &Key, line: &Command, linger: Duration) -> Request {
    let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
    Request {
        folder: options.folder.clone(),
        component: key.0.clone(),
        name: key.1.clone(),
        command: [line.get_program()].into_iter().chain(line.get_args()).map(text).collect(),
        env: line.get_envs().filter_map(|(name, value)| Some((text(name), text(value?)))).collect(),
        linger_ms: u64::try_from(linger.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Opens the lease of a program that runs. The caller holds the lock, so the program is not stopped meanwhile.
fn join(place: &Place) -> Option<(Session, File)> {
    let deadline = Instant::now() + END_WAIT;
    loop {
        match place.look() {
            Presence::Running(session) => {
                if let Ok(pipe) = place.open_lease() {
                    return Some((session, pipe));
                }
            }
            // Its starter died. The supervisor either starts the program or ends.
            Presence::Starting => {}
            Presence::Absent | Presence::Ended(_) => return None,
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(POLL);
    }
}

/// Starts a supervisor and waits until it has started the program.
fn start(place: &Place, request: &Request, supervisor: &[String]) -> io::Result<Session> {
    place.prepare()?;
    let (file, arguments) = supervisor.split_first().ok_or(io::ErrorKind::Unsupported)?;
    let mut line = Command::new(file);
    line.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(place.log())?);
    let mut child = line.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(&serde_json::to_vec(request)?)?;
    }
    // The supervisor leaves this process, which then has no child to wait for.
    child.wait()?;
    let Some(output) = child.stdout.take() else { return Err(io::ErrorKind::BrokenPipe.into()) };
    let answer = first_line(output)?;
    match (answer.as_str(), place.look()) {
        ("started", Presence::Running(session)) => Ok(session),
        _ => {
            let log = std::fs::read_to_string(place.log()).unwrap_or_default();
            let _ = place.prepare();
            let reason = if answer.is_empty() { "it ended at once" } else { &answer };
            Err(io::Error::other(format!("the supervisor {file} did not start it: {reason}\n{log}")))
        }
    }
}

/// Returns the first line that is written within [`START_WAIT`].
fn first_line(output: impl Read + Send + 'static) -> io::Result<String> {
    let (sender, line) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("dagster-ray-start".to_owned()).spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line);
        let _ = sender.send(read.map(|_| line.trim().to_owned()));
    })?;
    line.recv_timeout(START_WAIT).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
