//! Programs that belong to the host's process. A started program outlives a call.

use std::collections::HashMap;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::bindings::dagster_ray::host::processes::{Outcome, State};
use super::family::{Family, KillOnDrop};
use super::output::Tail;
use crate::model::Error;

/// How long to wait for the last output after a program has ended.
const DRAIN: Duration = Duration::from_millis(200);
const POLL: Duration = Duration::from_millis(50);
/// The maximum number of programs that run at once for the components of one host.
const MAX_PROGRAMS: usize = 256;
/// The maximum number of started programs whose state is kept, including those that have ended.
const MAX_KNOWN: usize = 1024;

/// A component, by its file, and the name that it gave the program.
pub(super) type Key = (PathBuf, String);

struct Running {
    pid: u32,
    family: Family,
    /// The number of programs that were started before.
    order: usize,
    ended: watch::Receiver<Option<Outcome>>,
}

/// All programs that components of this process started.
#[derive(Clone, Default)]
pub(super) struct Programs(Arc<Inner>);

#[derive(Default)]
struct Inner {
    known: Mutex<HashMap<Key, Arc<Running>>>,
    running: AtomicUsize,
    started: AtomicUsize,
}

/// Counts a program as running until it is dropped.
struct Slot(Arc<Inner>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Programs {
    fn known(&self) -> MutexGuard<'_, HashMap<Key, Arc<Running>>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self) -> Result<Slot, Error> {
        let slot = Slot(self.0.clone());
        if self.0.running.fetch_add(1, Ordering::AcqRel) < MAX_PROGRAMS {
            return Ok(slot);
        }
        Err(Error::Other(format!(
            "the components of this process already run {MAX_PROGRAMS} programs, which is the limit: wait until one has ended"
        )))
    }

    pub(super) async fn run(
        &self,
        line: std::process::Command,
        program: &str,
        wait: Duration,
    ) -> Result<Outcome, Error> {
        let _slot = self.slot()?;
        let (child, family, tail) = spawn(line, program)?;
        // The call may also be canceled or reach its deadline here.
        let guard = KillOnDrop::new(family);
        match timeout(wait, outcome(child, tail)).await {
            Ok(outcome) => {
                guard.release();
                Ok(outcome)
            }
            Err(_) => Err(Error::Timeout(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))),
        }
    }

    pub(super) fn start(&self, key: Key, line: std::process::Command, program: &str) -> Result<u32, Error> {
        let mut known = self.known();
        if let Some(running) = known.get(&key)
            && running.ended.borrow().is_none()
        {
            return Err(Error::Conflict(format!("{} is already running, as process {}", key.1, running.pid)));
        }
        let slot = self.slot()?;
        let (child, family, tail) = spawn(line, program)?;
        let pid = child.id().unwrap_or_default();
        let (sender, ended) = watch::channel(None);
        tokio::spawn(async move {
            // The task is dropped with the host.
            let guard = KillOnDrop::new(family);
            let outcome = outcome(child, tail).await;
            guard.release();
            drop(slot);
            let _ = sender.send(Some(outcome));
        });
        if known.len() >= MAX_KNOWN {
            forget_oldest(&mut known);
        }
        let order = self.0.started.fetch_add(1, Ordering::AcqRel);
        known.insert(key, Arc::new(Running { pid, family, order, ended }));
        Ok(pid)
    }

    pub(super) fn look(&self, key: &Key) -> State {
        match self.known().get(key) {
            None => State::Absent,
            Some(running) => match running.ended.borrow().clone() {
                Some(outcome) => State::Ended(outcome),
                None => State::Running(running.pid),
            },
        }
    }

    pub(super) async fn stop(&self, key: &Key, grace: Duration) -> Option<Outcome> {
        let running = self.known().get(key).cloned()?;
        let outcome = running.stop(grace).await;
        self.known().remove(key);
        Some(outcome)
    }

    /// Stops all programs in parallel.
    pub(super) async fn stop_all(&self, grace: Duration) {
        let all: Vec<_> = self.known().drain().map(|(_, running)| running).collect();
        let stopping: Vec<_> =
            all.into_iter().map(|running| tokio::spawn(async move { running.stop(grace).await })).collect();
        for task in stopping {
            let _ = task.await;
        }
    }
}

fn forget_oldest(known: &mut HashMap<Key, Arc<Running>>) {
    let ended = known.iter().filter(|(_, running)| running.ended.borrow().is_some());
    if let Some(key) = ended.min_by_key(|(_, running)| running.order).map(|(key, _)| key.clone()) {
        known.remove(&key);
    }
}

impl Running {
    async fn stop(&self, grace: Duration) -> Outcome {
        let deadline = Instant::now() + grace;
        // A member that leads its own session is not found after its parent has ended.
        let mut members = self.family.members();
        self.family.signal_leader(libc::SIGTERM);
        while !members.is_empty() && Instant::now() < deadline {
            sleep(POLL).await;
            let found = self.family.members();
            members.retain(|member| member.is_alive() && !found.contains(member));
            members.extend(found);
        }
        members.iter().for_each(|member| member.signal(libc::SIGKILL));
        self.family.kill();
        let mut ended = self.ended.clone();
        let waited = timeout(Duration::from_secs(5), ended.wait_for(Option::is_some)).await;
        match waited {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or(Outcome { exit_code: None, output: String::new() }),
            _ => Outcome { exit_code: None, output: String::new() },
        }
    }
}

fn spawn(mut line: std::process::Command, program: &str) -> Result<(Child, Family, Tail), Error> {
    line.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    end_with_parent(&mut line);
    let shown = line.get_program().to_string_lossy().into_owned();
    let mut child = tokio::process::Command::from(line).spawn().map_err(|error| {
        Error::NotFound(format!("the program {program} ({shown}) cannot be started: {error}"))
    })?;
    let family = Family::of(child.id().unwrap_or_default());
    let tail = Tail::default();
    follow(child.stdout.take(), tail.clone());
    follow(child.stderr.take(), tail.clone());
    Ok((child, family, tail))
}

/// Starts a program in a session of its own, and ends it with the thread that starts it.
///
/// With its own session, the program does not receive Ctrl-C of the terminal, and the processes that it leaves
/// behind can be found.
pub(super) fn end_with_parent(line: &mut std::process::Command) {
    // SAFETY: setsid and prctl are async-signal-safe, and nothing else happens between fork and exec.
    unsafe {
        line.pre_exec(|| {
            libc::setsid();
            // The kernel sends the signal when the parent thread ends: a runtime worker or the main thread,
            // which live as long as the process.
            #[cfg(target_os = "linux")]
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        });
    }
}

fn follow(stream: Option<impl AsyncRead + Unpin + Send + 'static>, tail: Tail) {
    let Some(mut stream) = stream else { return };
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            tail.push(buffer.get(..length).unwrap_or_default());
        }
    });
}

async fn outcome(mut child: Child, tail: Tail) -> Outcome {
    let exit_code = child.wait().await.ok().and_then(|status| status.code());
    sleep(DRAIN).await;
    Outcome { exit_code, output: tail.text() }
}
