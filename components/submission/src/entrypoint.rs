//! The command line of a job, for the shell that Ray hands it to.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dagster_ray_sdk::{Error, model::WorkerCommand};

/// The environment variable in which a worker's payload travels: a command line is shown in Ray's
/// dashboard and written into the job's log, and has a shell between it and the program.
pub const PAYLOAD_VARIABLE: &str = "DAGSTER_RAY_WORKER_ARGUMENT";

/// Ray tells every process of a job to end, and waits until each is gone. A shell in between goes
/// first and leaves the worker to the container's first process, which may never collect it: Ray
/// would wait for the whole time that it gives a job. So the worker takes the shell's place.
const EXEC: &str = "exec ";

/// The command line that runs a worker.
pub fn command_line(command: &WorkerCommand) -> Result<String, Error> {
    if command.argv.is_empty() {
        return Err(Error::invalid(
            "command.argv",
            "names no program",
            Some("give the program and its arguments, each as an element"),
        ));
    }
    let words = command.argv.iter().map(String::as_str);
    let mut line = String::from(EXEC);
    line.push_str(
        &shlex::try_join(words).map_err(|_| {
            Error::invalid("command.argv", "holds a NUL character, which no argument can", None)
        })?,
    );
    if command.payload.is_some() {
        line.push_str(&format!(" \"$(printf %s \"${PAYLOAD_VARIABLE}\" | base64 -d)\""));
    }
    Ok(line)
}

/// The program that a command line starts: a worker's as [`command_line`] wrote it, or a script's as
/// its user did. What Ray keeps of a job is all that is known of it when it is killed.
#[must_use]
pub fn program(line: &str) -> Option<String> {
    shlex::Shlex::new(line.strip_prefix(EXEC).unwrap_or(line)).next()
}

/// The environment variable with the payload, where there is one.
#[must_use]
pub fn payload(command: &WorkerCommand) -> Option<(String, String)> {
    let payload = command.payload.as_ref()?;
    Some((PAYLOAD_VARIABLE.to_owned(), STANDARD.encode(payload)))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn command(argv: &[&str], payload: Option<&str>) -> WorkerCommand {
        WorkerCommand {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            payload: payload.map(str::to_owned),
            env: Vec::new(),
        }
    }

    /// What `printf` receives as arguments, through a real shell.
    fn through_shell(arguments: &[&str], payload: Option<&str>) -> Vec<String> {
        let argv: Vec<&str> = ["printf", "%s\\0"].iter().chain(arguments).copied().collect();
        let command = command(&argv, payload);
        let output = Command::new("sh")
            .arg("-c")
            .arg(command_line(&command).expect("a command line"))
            .envs(super::payload(&command))
            .output()
            .expect("a shell");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("text");
        text.trim_end_matches('\0').split('\0').map(str::to_owned).collect()
    }

    #[test]
    fn a_shell_hands_on_each_argument_as_it_was() {
        let odd = [
            "it's",
            "two words",
            "a\nb",
            "$(touch /tmp/injected)",
            "`id`",
            "$HOME",
            "*",
            "a;b&&c|d>e",
            "\\",
            "\"",
            "",
            "--x=y",
            "~",
            "!!",
            "ü",
        ];
        assert_eq!(through_shell(&odd, None), odd);
    }

    #[test]
    fn a_payload_arrives_whole_and_is_not_in_the_command_line() {
        let payload = r#"{"build": "'123'", "note": "it's $(id) `id` \n \\ 100%", "tail": "x"}"#;
        assert_eq!(through_shell(&["run"], Some(payload)), ["run", payload]);
        let line = command_line(&command(&["dagster"], Some("s3cret"))).expect("a command line");
        assert!(!line.contains("s3cret") && !line.contains(&STANDARD.encode("s3cret")));
    }

    #[test]
    fn no_shell_is_left_beside_the_worker() {
        let command = command(&["sh", "-c", "echo $PPID"], Some("x"));
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command_line(&command).expect("a command line")).envs(super::payload(&command));
        let said = shell.output().expect("a shell").stdout;
        assert_eq!(String::from_utf8_lossy(&said).trim(), std::process::id().to_string());
    }

    #[test]
    fn an_empty_command_is_refused() {
        assert!(matches!(command_line(&command(&[], None)), Err(Error::InvalidConfig(_))));
    }
}
