//! Programs that components started. They belong to the host's process and outlive a call.

use std::collections::{HashMap, VecDeque};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::bindings::dagster_ray::host::processes::{Outcome, State};
use super::process_tree::process_tree;
use crate::model::Error;

/// How many bytes of the end of a program's output are kept.
const MAX_OUTPUT_BYTES: usize = 64 << 10;
/// How long to wait for the last output after a program has ended.
const DRAIN: Duration = Duration::from_millis(200);
const POLL: Duration = Duration::from_millis(50);

/// A component's name, and the name that it gave the program.
type Key = (String, String);

#[derive(Clone, Default)]
struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let surplus = kept.len().saturating_sub(MAX_OUTPUT_BYTES);
        kept.drain(..surplus);
    }

    fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (front, back) = kept.as_slices();
        String::from_utf8_lossy(&[front, back].concat()).into_owned()
    }
}

struct Running {
    pid: u32,
    ended: watch::Receiver<Option<Outcome>>,
}

/// All programs that components of this process started.
#[derive(Clone, Default)]
pub(crate) struct Programs(Arc<Mutex<HashMap<Key, Arc<Running>>>>);

impl Programs {
    fn get(&self, key: &Key) -> Option<Arc<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    pub(super) async fn run(
        &self,
        line: std::process::Command,
        program: &str,
        wait: Duration,
    ) -> Result<Outcome, Error> {
        let (child, tail) = spawn(line, program)?;
        let Some(pid) = child.id() else { return Ok(outcome(child, tail).await) };
        match timeout(wait, outcome(child, tail)).await {
            Ok(outcome) => Ok(outcome),
            Err(_) => {
                process_tree(pid).iter().for_each(|member| member.signal(libc::SIGKILL));
                Err(Error::Timeout(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)))
            }
        }
    }

    pub(super) fn start(&self, key: Key, line: std::process::Command, program: &str) -> Result<u32, Error> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = running.get(&key)
            && known.ended.borrow().is_none()
        {
            return Err(Error::Conflict(format!("{} is already running, as process {}", key.1, known.pid)));
        }
        let (child, tail) = spawn(line, program)?;
        let pid = child.id().unwrap_or_default();
        let (sender, ended) = watch::channel(None);
        tokio::spawn(async move {
            let outcome = outcome(child, tail).await;
            let _ = sender.send(Some(outcome));
        });
        running.insert(key, Arc::new(Running { pid, ended }));
        Ok(pid)
    }

    pub(super) fn look(&self, key: &Key) -> State {
        match self.get(key) {
            None => State::Absent,
            Some(running) => match running.ended.borrow().clone() {
                Some(outcome) => State::Ended(outcome),
                None => State::Running(running.pid),
            },
        }
    }

    pub(super) async fn stop(&self, key: &Key, grace: Duration) -> Option<Outcome> {
        let running = self.get(key)?;
        let outcome = running.stop(grace).await;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        Some(outcome)
    }

    /// Stops all programs in parallel.
    pub(crate) async fn stop_all(&self, grace: Duration) {
        let all: Vec<_> = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain()
            .map(|(_, running)| running)
            .collect();
        let stopping: Vec<_> =
            all.into_iter().map(|running| tokio::spawn(async move { running.stop(grace).await })).collect();
        for task in stopping {
            let _ = task.await;
        }
    }
}

impl Running {
    async fn stop(&self, grace: Duration) -> Outcome {
        let deadline = Instant::now() + grace;
        let members = process_tree(self.pid);
        if self.ended.borrow().is_none()
            && let Some(leader) = members.first()
        {
            leader.signal(libc::SIGTERM);
        }
        while Instant::now() < deadline && members.iter().any(|member| member.is_alive()) {
            sleep(POLL).await;
        }
        members.iter().for_each(|member| member.signal(libc::SIGKILL));
        let mut ended = self.ended.clone();
        let waited = timeout(Duration::from_secs(5), ended.wait_for(Option::is_some)).await;
        match waited {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or(Outcome { exit_code: None, output: String::new() }),
            _ => Outcome { exit_code: None, output: String::new() },
        }
    }
}

fn spawn(mut line: std::process::Command, program: &str) -> Result<(Child, Tail), Error> {
    line.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // With its own process group, the program does not receive Ctrl-C of the terminal. The caller does,
    // and stops the program.
    line.process_group(0);
    #[cfg(target_os = "linux")]
    // SAFETY: prctl is async-signal-safe, and nothing else happens between fork and exec.
    unsafe {
        line.pre_exec(|| {
            // Ends the program when the host is killed and cannot stop it. The kernel sends the signal
            // when the parent thread ends: a runtime worker, which lives as long as the process.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        });
    }
    let shown = line.get_program().to_string_lossy().into_owned();
    let mut child = tokio::process::Command::from(line).spawn().map_err(|error| {
        Error::NotFound(format!("the program {program} ({shown}) cannot be started: {error}"))
    })?;
    let tail = Tail::default();
    follow(child.stdout.take(), tail.clone());
    follow(child.stderr.take(), tail.clone());
    Ok((child, tail))
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
