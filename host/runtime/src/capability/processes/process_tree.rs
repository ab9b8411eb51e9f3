//! A program and its descendant processes.
//!
//! A Ray head is a dozen processes, some in their own sessions. Neither the process group nor the first
//! process shows whether all of them have ended.

use std::collections::BTreeMap;

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
    started: u64,
    ended: bool,
}

/// Reads `/proc/<pid>/stat`. Fields after the command's name, from proc(5): 3 state, 4 ppid, 22
/// starttime.
fn stat(pid: i32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        ended: matches!(*fields.first()?, "Z" | "X"),
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// Returns a process and its current descendants.
pub(super) fn process_tree(pid: u32) -> Vec<Process> {
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
    members.iter().filter_map(|pid| Some(Process { pid: *pid, started: all.get(pid)?.started })).collect()
}
