//! A program and everything that it started.
//!
//! A head of Ray is a dozen processes, some in sessions of their own, so neither a process group nor
//! the first process tells whether all of it has ended.

use std::collections::BTreeMap;

/// A process that a later one of the same id is not taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    pid: i32,
    /// Clock ticks after boot at which it started.
    started: u64,
}

impl Member {
    pub(super) fn lives(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.started == self.started && !stat.ended)
    }

    pub(super) fn signal(self, signal: i32) {
        if self.lives() {
            // SAFETY: kill takes any process id and signal, and touches no memory of ours.
            unsafe { libc::kill(self.pid, signal) };
        }
    }
}

struct Stat {
    parent: i32,
    started: u64,
    ended: bool,
}

/// Field numbers after the command's name, from proc(5): 3 state, 4 ppid, 22 starttime.
fn stat(pid: i32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        ended: matches!(*fields.first()?, "Z" | "X"),
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// A process and all its descendants, as they are now.
pub(super) fn of(pid: u32) -> Vec<Member> {
    let all: BTreeMap<i32, Stat> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .collect();
    let root = pid.cast_signed();
    let mut members = vec![root];
    let mut next = 0;
    while let Some(&parent) = members.get(next) {
        members.extend(all.iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    members.iter().filter_map(|pid| Some(Member { pid: *pid, started: all.get(pid)?.started })).collect()
}
