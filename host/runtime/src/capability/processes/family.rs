//! A program and the processes that came from it.
//!
//! A Ray head is a dozen processes, some in their own sessions. Neither the process group nor the first
//! process shows whether all of them have ended.

use std::collections::BTreeMap;
use std::time::Duration;

/// How often [`Family::kill`] looks for processes that were started while it killed the others.
const KILL_ROUNDS: u32 = 20;
const KILL_PAUSE: Duration = Duration::from_millis(2);

/// A process, identified by its id and start time, because Linux reuses process ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pid: i32,
    /// Start time, in clock ticks after boot.
    started: u64,
}

impl Process {
    pub(super) fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.started == self.started && !stat.ended)
    }

    pub(super) fn signal(self, signal: i32) {
        if self.is_alive() {
            // SAFETY: kill accepts any process id and signal, and accesses no memory of this process.
            unsafe { libc::kill(self.pid, signal) };
        }
    }
}

struct Stat {
    parent: i32,
    group: i32,
    session: i32,
    started: u64,
    ended: bool,
}

/// Reads `/proc/<pid>/stat`. Fields after the command's name, from proc(5): 3 state, 4 ppid, 5 pgrp,
/// 6 session, 22 starttime.
fn stat(pid: i32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        ended: matches!(*fields.first()?, "Z" | "X"),
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

fn all_processes() -> BTreeMap<i32, Stat> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .collect()
}

/// Adds the descendants of the processes in `members`.
fn add_descendants(members: &mut Vec<i32>, all: &BTreeMap<i32, Stat>) {
    let mut next = 0;
    while let Some(&parent) = members.get(next) {
        for (&pid, stat) in all {
            if stat.parent == parent && !members.contains(&pid) {
                members.push(pid);
            }
        }
        next += 1;
    }
}

/// Returns the live descendants of a process, without the process itself.
pub(super) fn descendants(pid: u32) -> Vec<Process> {
    let all = all_processes();
    let mut members = vec![pid.cast_signed()];
    add_descendants(&mut members, &all);
    live(members.iter().skip(1), &all)
}

fn live<'a>(members: impl Iterator<Item = &'a i32>, all: &BTreeMap<i32, Stat>) -> Vec<Process> {
    let process = |pid: &i32| {
        let stat = all.get(pid).filter(|stat| !stat.ended)?;
        Some(Process { pid: *pid, started: stat.started })
    };
    members.filter_map(process).collect()
}

/// A program that leads a session of its own, with all processes that came from it.
///
/// A process whose parent has ended is found by its session. One that also leads a new session is found only
/// while its parent is alive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family {
    leader: i32,
    started: Option<u64>,
}

impl Family {
    /// Returns the family of a program that has just been started.
    pub(super) fn of(leader: u32) -> Self {
        let leader = leader.cast_signed();
        Self { leader, started: stat(leader).map(|stat| stat.started) }
    }

    /// Returns the live members. The leader is the first one, if it is alive.
    pub(super) fn members(&self) -> Vec<Process> {
        let all = all_processes();
        // Another process has the leader's id, so nothing of the leader's session is left.
        if all.get(&self.leader).is_some_and(|stat| Some(stat.started) != self.started) {
            return Vec::new();
        }
        let mut members = vec![self.leader];
        let is_member = |stat: &Stat| stat.session == self.leader || stat.group == self.leader;
        members.extend(
            all.iter().filter(|(pid, stat)| **pid != self.leader && is_member(stat)).map(|(pid, _)| *pid),
        );
        add_descendants(&mut members, &all);
        live(members.iter(), &all)
    }

    /// Sends a signal to the leader, if it is alive.
    pub(super) fn signal_leader(&self, signal: i32) {
        if let Some(started) = self.started {
            Process { pid: self.leader, started }.signal(signal);
        }
    }

    /// Kills all members, also those that are started meanwhile.
    pub(super) fn kill(&self) {
        for _ in 0..KILL_ROUNDS {
            let members = self.members();
            if members.is_empty() {
                return;
            }
            members.iter().for_each(|member| member.signal(libc::SIGKILL));
            std::thread::sleep(KILL_PAUSE);
        }
    }
}

/// Kills a family when it is dropped, unless it is released before.
pub(super) struct KillOnDrop(Option<Family>);

impl KillOnDrop {
    pub(super) fn new(family: Family) -> Self {
        Self(Some(family))
    }

    /// Lets the family live.
    pub(super) fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(family) = self.0.take() {
            family.kill();
        }
    }
}
