//! Each attack of the hostile component ends in an error with component, export and reason, and the host
//! serves the next call.

use sandbox_tests::{Subject, attack};

const GRANTED: &str = "id = 'hostile'\n[grants]\nhttp = ['address']\npackages = true\nobjects = ['ours']\nprocesses = { echo = [['hello']], ghost = [[]] }\n[limits]\nmemory_mib = 16\ncall_seconds = 1.0\nstderr_kib = 1\n";

fn outcome(name: &str) -> String {
    let subject = Subject::new("hostile", GRANTED).setting("attack", name);
    attack(&subject)
}

#[test]
fn a_panic_is_reported_with_its_message() {
    let text = outcome("panic");
    assert!(
        text.starts_with("hostile: launcher.plan: the component failed: it panicked or aborted"),
        "{text}"
    );
    assert!(text.contains("the component has a defect, and says so"), "{text}");
}

#[test]
fn an_endless_loop_ends_at_the_deadline() {
    insta::assert_snapshot!(outcome("spin"), @"hostile: launcher.plan: not finished within 1 s, and stopped");
}

#[test]
fn memory_growth_ends_at_the_limit() {
    let text = outcome("memory");
    assert!(text.contains("more than the 16 MiB of memory that its limit `memory_mib` allows"), "{text}");
}

#[test]
fn a_deep_recursion_traps() {
    let text = outcome("stack");
    // A Rust guest has two stacks. Which one overflows first depends on its frames.
    assert!(text.contains("call stack exhausted") || text.contains("out of bounds memory access"), "{text}");
    assert!(text.contains("in fixture_hostile::attacks::stack"), "{text}");
}

#[test]
fn a_read_out_of_bounds_traps() {
    let text = outcome("out-of-bounds");
    assert!(text.contains("out of bounds memory access"), "{text}");
}

#[test]
fn the_environment_is_empty() {
    insta::assert_snapshot!(outcome("environment"), @"hostile: launcher.plan: [] []");
}

#[test]
fn a_request_to_another_host_is_denied_with_the_grant_to_add() {
    let subject = Subject::new("hostile", GRANTED)
        .setting("attack", "get http://metadata.internal:80/latest")
        .authority("http://127.0.0.1:1", ("authorization", "Bearer secret"));
    insta::assert_snapshot!(
        attack(&subject),
        @r#"hostile: launcher.plan: the host refused http to http://metadata.internal:80/latest. To allow it, add to [grants] in the component's manifest: http = ["http://metadata.internal:80"]"#
    );
}

#[test]
fn a_granted_program_runs_without_a_shell() {
    let subject = Subject::new("hostile", GRANTED)
        .setting("attack", "run echo hello $(id) ; id")
        .program("echo", &["/bin/echo"]);
    insta::assert_snapshot!(attack(&subject), @"hostile: launcher.plan: Some(0) hello $(id) ; id");
}

#[test]
fn ungranted_arguments_and_programs_are_denied() {
    let run = |line: &str| {
        let subject = Subject::new("hostile", GRANTED)
            .setting("attack", &format!("run {line}"))
            .program("echo", &["/bin/echo"]);
        attack(&subject)
    };
    insta::assert_snapshot!(run("echo goodbye"), @r#"hostile: launcher.plan: the host refused processes to echo goodbye. To allow it, add to [grants] in the component's manifest: processes = { echo = [["goodbye"]] }"#);
    assert!(run("sh -c id").contains("processes = { sh = [[\"-c\", \"id\"]] }"));
    assert!(run("/bin/echo hello").contains("the host refused processes"));
    // Granted, but the configuration names no file for it.
    assert!(run("ghost").contains("backend_programs: {ghost: [/path/of/ghost]}"));
}

#[test]
fn only_a_granted_value_store_is_opened() {
    let load =
        |key: &str| attack(&Subject::new("hostile", GRANTED).setting("attack", &format!("load {key}")));
    insta::assert_snapshot!(load("others:key"), @r#"hostile: launcher.plan: the host refused objects to others. To allow it, add to [grants] in the component's manifest: objects = ["others"]"#);
    // Granted, but the embedding program provides no store with this name.
    assert!(load("ours:key").contains("the host refused objects to ours"));
}

#[test]
fn only_a_configured_directory_is_read_and_links_cannot_leave_it() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "canary").unwrap();
    let inside = tempfile::tempdir().unwrap();
    std::fs::create_dir(inside.path().join("sub")).unwrap();
    std::fs::write(inside.path().join("sub/module.py"), "x = 1").unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), inside.path().join("link")).unwrap();
    std::os::unix::fs::symlink(inside.path(), inside.path().join("loop")).unwrap();
    let read = |path: String| {
        let subject = Subject::new("hostile", GRANTED)
            .setting("attack", &format!("read {path}"))
            .directory(inside.path());
        attack(&subject)
    };
    let root = inside.path().display();
    assert!(read(format!("{root}:sub/module.py")).ends_with(r#"["sub/module.py"] x = 1"#));
    for escape in [
        format!("{root}:link"),
        format!("{root}:../{}/secret", outside.path().file_name().unwrap().display()),
        format!("{root}:{}", outside.path().join("secret").display()),
        format!("{}:secret", outside.path().display()),
    ] {
        let text = read(escape.clone());
        assert!(text.contains("the host refused packages") && !text.contains("canary"), "{escape}: {text}");
    }
}

#[test]
fn a_component_without_a_required_grant_is_not_loaded() {
    let manifest = GRANTED.replace("http = ['address']\n", "");
    let subject = Subject::new("hostile", &manifest).setting("attack", "spin");
    let error = subject.backend().describe().expect_err("it imports wasi:http");
    let text = error.to_string();
    assert!(text.contains("wasi:http/") && text.contains("http = [\"address\"]"), "{text}");
}
