//! Programs that components run: what ends with them, who can see them, and how many there can be.

use std::path::Path;
use std::time::{Duration, Instant};

use dagster_ray_runtime::{Call, CallOptions, Host};
use sandbox_tests::{Subject, attack, call, plan_arguments};

const GRANTED: &str = "id = 'hostile'\n[grants]\nhttp = ['address']\npackages = true\nobjects = ['ours']\nprocesses = { sh = [[]] }\n[limits]\ncall_seconds = SECONDS\n";

fn subject(seconds: &str, attack: &str, script: &str) -> Subject {
    Subject::new("hostile", &GRANTED.replace("SECONDS", seconds))
        .setting("attack", attack)
        .program("sh", &["/bin/sh", "-c", script, "sh"])
}

/// Returns the ids of the live processes with this text in their command line.
fn processes(text: &str) -> Vec<u32> {
    let found = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(Path::new("/proc").join(entry.file_name()).join("cmdline")).ok()?;
        String::from_utf8_lossy(&line).contains(text).then_some(pid)
    });
    found.collect()
}

fn assert_ends(text: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !processes(text).is_empty() {
        assert!(Instant::now() < deadline, "processes with {text:?} are left: {:?}", processes(text));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A duration for `sleep` that no other process has in its command line.
fn unique(seconds: u32) -> String {
    format!("{seconds}.0{}", std::process::id())
}

#[test]
fn a_program_that_exceeds_its_time_is_killed_with_its_orphans() {
    let marker = unique(301);
    // The subshell ends at once, so its `sleep` has no parent in the family.
    let script = format!("(sleep {marker} &); (sleep {marker} &) ; sleep {marker}");
    let outcome = attack(&subject("20.0", "run-for 500 sh", &script));
    assert!(outcome.contains("not finished within 0.5 s"), "{outcome}");
    assert_ends(&marker);
}

#[test]
fn a_program_ends_with_the_call_that_runs_it() {
    let marker = unique(302);
    let subject = subject("0.5", "run-for 60000 sh", &format!("(sleep {marker} &); sleep {marker}"));
    assert!(attack(&subject).contains("not finished within 0.5 s"));
    assert_ends(&marker);
}

#[test]
fn a_canceled_call_ends_its_program() {
    let marker = unique(303);
    let subject = subject("60.0", "run-for 60000 sh", &format!("(sleep {marker} &); sleep {marker}"));
    let backend = subject.backend();
    let arguments = plan_arguments("r").to_string();
    let mut running = Call::begin(&backend, "launcher.plan", &arguments, CallOptions::default());
    let deadline = Instant::now() + Duration::from_secs(20);
    while processes(&marker).len() < 2 {
        assert!(Instant::now() < deadline, "the program does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    running.cancel();
    assert_ends(&marker);
}

#[test]
fn a_component_with_the_same_id_cannot_see_or_stop_a_program() {
    let marker = unique(304);
    let script = format!("sleep {marker}");
    let owner = subject("20.0", "start guarded sh", &script);
    assert!(attack(&owner).contains("started"));
    let look = attack(&subject("20.0", "look guarded", &script));
    assert!(look.contains("Absent"), "{look}");
    let stop = attack(&subject("20.0", "stop guarded", &script));
    assert!(stop.contains("no program was started under the name guarded"), "{stop}");
    assert!(!processes(&marker).is_empty());
    let stopped = attack(&owner.setting("attack", "stop guarded"));
    assert!(stopped.contains("stopped"), "{stopped}");
    assert_ends(&marker);
}

#[test]
fn programs_are_limited_and_end_with_the_host() {
    let marker = unique(305);
    let host = Host::start().expect("a host");
    let subject = subject("60.0", "start-many 1000 sh", &format!("exec sleep {marker}"));
    let backend = subject.backend_in(host);
    let outcome = call(&backend, "launcher.plan", &plan_arguments("r"));
    let error = outcome.expect_err("the limit").to_string();
    assert!(error.contains("already run 256 programs"), "{error}");
    assert!(processes(&marker).len() <= 256);
    drop(backend);
    assert_ends(&marker);
}
