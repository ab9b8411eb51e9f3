//! Builds the command line of a job, which Ray runs in a shell.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dagster_ray_sdk::{Error, model::WorkerCommand};

/// The environment variable with a worker's payload, encoded in Base64.
///
/// The payload is not part of the command line, which Ray shows in its dashboard, writes to the job's log
/// and passes through a shell.
pub const PAYLOAD_VARIABLE: &str = "DAGSTER_RAY_WORKER_ARGUMENT";

/// Makes the worker replace the shell.
///
/// Ray signals every process of a job and waits until each has exited. A shell would exit first and leave
/// the worker to the container's init process, which may never reap it. Ray would then wait for the whole
/// stop time.
const EXEC: &str = "exec ";

/// Returns the shell command line that runs a worker.
pub fn command_line(command: &WorkerCommand) -> Result<String, Error> {
    if command.argv.is_empty() {
        return Err(Error::invalid(
            "command.argv",
            "is empty",
            Some("write a list of the program and its arguments"),
        ));
    }
    let words = command.argv.iter().map(String::as_str);
    let mut line = String::from(EXEC);
    line.push_str(&shlex::try_join(words).map_err(|_| {
        Error::invalid("command.argv", "contains a NUL character", Some("remove the NUL character"))
    })?);
    if command.payload.is_some() {
        line.push_str(&format!(" \"$(printf %s \"${PAYLOAD_VARIABLE}\" | base64 -d)\""));
    }
    Ok(line)
}

/// Returns a script's entrypoint, in which the program replaces the shell if that is all that the shell is for.
///
/// If a worker of Ray ends because its raylet is gone, Ray kills the shell of the entrypoint, but not the shell's
/// children (`RAY_kill_child_processes_on_worker_exit`), so that a script would run on. A command line with more
/// than one command, or with a word that only a shell understands, is left as it is.
#[must_use]
pub fn script(line: &str) -> String {
    let words = line.trim_start();
    let program = words.split_whitespace().next().unwrap_or_default();
    let file_name = program.rsplit('/').next().unwrap_or_default();
    let is_file = program.contains('/') || file_name.starts_with("python");
    let is_plain = program.chars().all(|one| one.is_ascii_alphanumeric() || "/._-+".contains(one));
    if is_file && is_plain && !line.contains([';', '&', '|', '(', ')', '`', '\n', '\\']) {
        format!("{EXEC}{words}")
    } else {
        line.to_owned()
    }
}

/// Returns the program that a command line starts. `line` is a result of [`command_line`] or a script's
/// entrypoint, as Ray's Jobs API returns it.
#[must_use]
pub fn program(line: &str) -> Option<String> {
    shlex::Shlex::new(line.strip_prefix(EXEC).unwrap_or(line)).next()
}

/// Returns the environment variable with the payload, if the command has one.
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

    #[test]
    fn the_program_of_a_script_replaces_the_shell_unless_the_shell_does_more() {
        for line in ["python train.py --lr 0.1 'a b' $HOME > out.txt", "/opt/env/bin/run", "./job.sh x"] {
            assert_eq!(script(line), format!("exec {line}"));
        }
        assert_eq!(script("  python x.py"), "exec python x.py");
        for line in [
            "cd code && python x.py",
            "python x.py; python y.py",
            "python x.py | tee log",
            "python x.py &",
            "A=b python x.py",
            "A=/b python x.py",
            "exec python x.py",
            "source ./env",
            "echo $(pwd)/x",
            "./a \n./b",
            "if true; then ./a; fi",
            "uv run x.py",
            "",
        ] {
            assert_eq!(script(line), line);
        }
        let shell = |line: &str| {
            let line = script(line);
            let output = Command::new("sh").arg("-c").arg(line).env("X", "a b").output().expect("a shell");
            (output.status.code(), String::from_utf8(output.stdout).expect("text"))
        };
        assert_eq!(shell("/bin/echo \"$X\"  c 2>/dev/null"), (Some(0), "a b c\n".to_owned()));
        assert_eq!(shell("/bin/missing-program 2>/dev/null").0, Some(127));
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
    fn each_argument_survives_the_shell_unchanged() {
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
    fn the_payload_survives_the_shell_and_is_not_in_the_command_line() {
        let payload = r#"{"build": "'123'", "note": "it's $(id) `id` \n \\ 100%", "tail": "x"}"#;
        assert_eq!(through_shell(&["run"], Some(payload)), ["run", payload]);
        let line = command_line(&command(&["dagster"], Some("s3cret"))).expect("a command line");
        assert!(!line.contains("s3cret") && !line.contains(&STANDARD.encode("s3cret")));
    }

    #[test]
    fn the_worker_replaces_the_shell() {
        let command = command(&["sh", "-c", "echo $PPID"], Some("x"));
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command_line(&command).expect("a command line")).envs(super::payload(&command));
        let stdout = shell.output().expect("a shell").stdout;
        assert_eq!(String::from_utf8_lossy(&stdout).trim(), std::process::id().to_string());
    }

    #[test]
    fn an_empty_command_is_rejected() {
        assert!(matches!(command_line(&command(&[], None)), Err(Error::InvalidConfig(_))));
    }
}
