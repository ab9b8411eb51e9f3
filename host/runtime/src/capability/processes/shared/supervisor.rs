//! The supervisor: runs one program, and stops it when nothing uses it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::super::family::{Family, descendants};
use super::super::output::Tail;
use super::super::programs::end_with_parent;
use super::place::{Place, Presence};
use super::{Ended, LEASE_VARIABLE, Request, Session};

/// How often the supervisor checks the program and its users.
const TICK: Duration = Duration::from_millis(250);
const FAST_TICK: Duration = Duration::from_millis(20);
/// How long the program may take to end when nothing uses it.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How long killed processes may take to end.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// How long to wait for the last output after the program has ended.
const DRAIN: Duration = Duration::from_millis(200);
/// How long the result of a program that ended by itself can be read.
const RESULT_WAIT: Duration = Duration::from_secs(60);
const TOUCH: Duration = Duration::from_secs(3600);
/// The maximum number of bytes of an incomplete message.
const MAX_MESSAGE: usize = 64 << 10;
/// The maximum number of tokens that hold the program.
const MAX_HOLDS: usize = 10_000;

static TERMINATED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_sigterm(_: libc::c_int) {
    TERMINATED.store(true, Ordering::Release);
}

/// Runs the program of the request in `input`, and returns when it has ended. Writes `started` or an error to
/// `output`, as one line.
///
/// It must be called in the main thread of a process that does nothing else: it becomes the parent of all
/// orphaned descendants, and handles SIGTERM.
///
/// # Errors
/// The request is invalid, or files or the program's process cannot be created.
pub fn supervise(input: impl Read, mut output: impl Write) -> io::Result<()> {
    let started = Supervisor::start(input);
    let line = match &started {
        Ok(_) => "started".to_owned(),
        Err(error) => error.to_string().replace('\n', " "),
    };
    // The process that asked for the program may have ended.
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
    drop(output);
    started?.follow()
}

struct Supervisor {
    place: Place,
    session: File,
    lease: File,
    linger: Duration,
    program: Family,
    pid: i32,
    status: Option<ExitStatus>,
    tail: Tail,
    users: Users,
    touched: Instant,
}

/// What the users of the program have written to the lease.
#[derive(Default)]
struct Users {
    unread: Vec<u8>,
    holds: HashMap<String, Instant>,
    stop: Option<Duration>,
}

impl Supervisor {
    fn start(input: impl Read) -> io::Result<Self> {
        let request: Request = serde_json::from_reader(input)?;
        let place = Place::new(&request.folder, &request.component, &request.name);
        let session = place.lock_session()?;
        let lease = place.create_lease()?;
        adopt_orphans();
        let (program, pid, tail) = start_program(&request, place.lease().as_os_str())?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let text = serde_json::to_vec_pretty(&Session {
            supervisor: std::process::id(),
            program: pid.cast_unsigned(),
            component: request.component,
            name: request.name,
            started_ms: u64::try_from(now.as_millis()).unwrap_or_default(),
        })?;
        (&session).write_all(&text)?;
        Ok(Self {
            place,
            session,
            lease,
            linger: Duration::from_millis(request.linger_ms),
            program,
            pid,
            status: None,
            tail,
            users: Users::default(),
            touched: Instant::now(),
        })
    }

    fn follow(mut self) -> io::Result<()> {
        let mut unused_since = None;
        loop {
            self.reap();
            if self.status.is_some() {
                self.stop(Duration::ZERO);
                return self.report_end();
            }
            if TERMINATED.load(Ordering::Acquire) {
                self.stop(STOP_GRACE);
                return self.report_end();
            }
            if self.is_used() {
                unused_since = None;
            } else if unused_since.get_or_insert_with(Instant::now).elapsed() >= self.linger
                && self.stop_unused()
            {
                return Ok(());
            }
            if let Some(grace) = self.users.stop {
                self.stop(grace);
                return self.report_end();
            }
            if self.touched.elapsed() >= TOUCH {
                self.touched = Instant::now();
                self.place.touch();
            }
            std::thread::sleep(TICK);
        }
    }

    /// Stops the program and removes its files, unless another process joins. Returns whether it has stopped.
    fn stop_unused(&mut self) -> bool {
        if !self.place.is_session(&self.session) {
            // The files were removed, so that no process can join. Those of the place are another program's.
            self.stop(STOP_GRACE);
            return true;
        }
        let Ok(Some(lock)) = self.place.lock(Duration::ZERO) else { return false };
        // A process may have joined before this one got the lock.
        if self.is_used() {
            return false;
        }
        self.stop(STOP_GRACE);
        self.place.remove(&lock);
        true
    }

    /// Returns whether a process has the lease open or a token holds the program.
    fn is_used(&mut self) -> bool {
        let is_open = self.users.read(&mut self.lease);
        let now = Instant::now();
        self.users.holds.retain(|_, until| *until > now);
        is_open || !self.users.holds.is_empty()
    }

    /// Collects the processes that have ended: the program, and orphans that this process adopted.
    fn reap(&mut self) {
        loop {
            let mut status = 0;
            // SAFETY: waitpid writes to the integer, which outlives the call.
            match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
                pid if pid <= 0 => return,
                pid if pid == self.pid => self.status = Some(ExitStatus::from_raw(status)),
                _ => {}
            }
        }
    }

    /// Asks the program to end, and kills what is left of its family after `grace`.
    fn stop(&mut self, grace: Duration) {
        if self.status.is_none() {
            self.program.signal_leader(libc::SIGTERM);
        }
        let (begun, own) = (Instant::now(), std::process::id());
        loop {
            self.reap();
            let mut members = descendants(own);
            members.extend(self.program.members());
            let waited = begun.elapsed();
            if members.is_empty() || waited >= grace + KILL_WAIT {
                return;
            }
            if waited >= grace {
                members.iter().for_each(|member| member.signal(libc::SIGKILL));
            }
            std::thread::sleep(FAST_TICK);
        }
    }

    /// Reports the end of the program, and removes the report once no process waits for it.
    fn report_end(self) -> io::Result<()> {
        std::thread::sleep(DRAIN);
        let Self { place, session, mut lease, status, tail, mut users, .. } = self;
        if !place.is_session(&session) {
            // The files of the place are another program's.
            return Ok(());
        }
        let exit_code = status.and_then(|status| status.code());
        place.write_ended(&Ended { exit_code, output: tail.text() })?;
        fs::remove_file(place.session())?;
        drop(session);
        let ended = Instant::now();
        while users.read(&mut lease) && ended.elapsed() < RESULT_WAIT {
            std::thread::sleep(TICK);
        }
        // Another supervisor may have taken the place.
        if let Some(lock) = place.lock(RESULT_WAIT)?
            && matches!(place.look(), Presence::Ended(_))
        {
            place.remove(&lock);
        }
        Ok(())
    }
}

impl Users {
    /// Reads messages. Returns whether a process has the lease open.
    fn read(&mut self, lease: &mut File) -> bool {
        let mut buffer = [0; 4096];
        let is_open = loop {
            match lease.read(&mut buffer) {
                Ok(0) => break false,
                Ok(length) => self.unread.extend(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nothing to read, and the pipe is open elsewhere.
                Err(_) => break true,
            }
        };
        while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            self.obey(String::from_utf8_lossy(&line).trim());
        }
        if self.unread.len() > MAX_MESSAGE {
            self.unread.clear();
        }
        is_open
    }

    fn obey(&mut self, message: &str) {
        match message.split(' ').collect::<Vec<_>>()[..] {
            ["hold", ms, token] => match ms.parse().map(Duration::from_millis) {
                Ok(Duration::ZERO) => drop(self.holds.remove(token)),
                Ok(time) if self.holds.len() < MAX_HOLDS => {
                    self.holds.insert(token.to_owned(), Instant::now() + time);
                }
                _ => {}
            },
            ["started", token] => drop(self.holds.remove(token)),
            ["stop", ms] => self.stop = ms.parse().ok().map(Duration::from_millis),
            _ => {}
        }
    }
}

/// Makes this process the parent of orphaned descendants and lets it handle SIGTERM.
fn adopt_orphans() {
    let handler: extern "C" fn(libc::c_int) = on_sigterm;
    // SAFETY: the handler only stores to an atomic. prctl with this option accesses no memory.
    unsafe {
        libc::signal(libc::SIGTERM, handler as libc::sighandler_t);
        #[cfg(target_os = "linux")]
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
    }
}

fn start_program(request: &Request, lease: &OsStr) -> io::Result<(Family, i32, Tail)> {
    let (file, arguments) = request.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let (mut output, for_program) = io::pipe()?;
    let mut line = Command::new(file);
    line.args(arguments).envs(&request.env).env(LEASE_VARIABLE, lease);
    line.stdin(Stdio::null()).stdout(for_program.try_clone()?).stderr(for_program);
    end_with_parent(&mut line);
    let child = line.spawn()?;
    // The command holds the write end of the pipe.
    drop(line);
    let tail = Tail::default();
    let kept = tail.clone();
    std::thread::Builder::new().name("dagster-ray-output".to_owned()).spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = output.read(&mut buffer) {
            kept.push(buffer.get(..length).unwrap_or_default());
        }
    })?;
    Ok((Family::of(child.id()), child.id().cast_signed(), tail))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Returns the state of a lease on which `script` runs with the lease as `$1`.
    fn users(script: &str) -> (bool, Users) {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path(), Path::new("/x.wasm"), "head");
        place.prepare().unwrap();
        let mut lease = place.create_lease().unwrap();
        let line = Command::new("sh").args(["-c", script, "sh"]).arg(place.lease()).status();
        assert!(line.unwrap().success());
        let mut users = Users::default();
        let is_open = users.read(&mut lease);
        (is_open, users)
    }

    #[test]
    fn a_lease_is_open_while_any_process_of_a_family_has_it() {
        assert!(!users("exec 9<>\"$1\"; true").0);
        assert!(users("exec 9<>\"$1\"; sleep 1 >&- 2>&- &").0);
    }

    #[test]
    fn a_process_that_opens_the_lease_ends_the_time_that_its_token_holds() {
        let (_, held) = users("exec 9<>\"$1\"; echo hold 60000 job-1 >&9; echo hold 60000 job-2 >&9");
        assert_eq!(held.holds.len(), 2);
        let (_, held) =
            users("exec 9<>\"$1\"; echo hold 60000 job-1 >&9; echo started job-1 >&9; echo junk >&9");
        assert!(held.holds.is_empty() && held.stop.is_none());
    }
}
