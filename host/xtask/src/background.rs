//! Compilations that run beside tests and must not slow them down.

use std::process::Command;

/// Starts a program with the lowest priority. Where Linux groups processes by session (autogroup), a
/// priority counts within a session only, so the program gets a session of its own with a low priority.
/// It still ends with this process.
const WRAPPER: [&str; 7] = [
    "setsid",
    "setpriv",
    "--pdeathsig",
    "TERM",
    "sh",
    "-c",
    "echo 19 2>/dev/null >/proc/self/autogroup; exec nice -n 19 \"$0\" \"$@\"",
];

/// Returns the same command with the lowest priority.
pub(crate) fn in_background(command: Command) -> Command {
    let [program, arguments @ ..] = WRAPPER;
    let mut wrapped = Command::new(program);
    wrapped.args(arguments).arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped
}
