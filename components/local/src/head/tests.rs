use std::cell::RefCell;

use dagster_ray_jobs::JobsClient;
use dagster_ray_sdk::{
    bindings::processes::Outcome,
    http::Request,
    retry::Policy,
    testing::{ScriptedHttp, ScriptedResponse, VirtualClock},
};

use super::*;

const PID: u32 = 4711;

/// A double for the host's programs, on which `ray start` behaves as the test sets.
#[derive(Default)]
struct Machine {
    started: RefCell<Vec<Command>>,
    stopped: RefCell<u32>,
    ends_with: Option<&'static str>,
    is_running: bool,
}

impl Programs for Machine {
    fn share(&self, _name: &str, command: &Command, _linger_ms: u64) -> Result<u32, Error> {
        self.started.borrow_mut().push(command.clone());
        Ok(PID)
    }

    fn hold(&self, _name: &str, _token: &str, _ms: u64) -> Result<(), Error> {
        Ok(())
    }

    fn state(&self, _name: &str) -> State {
        match self.ends_with {
            _ if self.started.borrow().is_empty() && !self.is_running => State::Absent,
            Some(output) => State::Ended(Outcome { exit_code: Some(1), output: output.to_owned() }),
            None => State::Running(PID),
        }
    }

    fn stop(&self, _name: &str, _grace_ms: u64) -> Result<Outcome, Error> {
        *self.stopped.borrow_mut() += 1;
        Ok(Outcome { exit_code: None, output: String::new() })
    }
}

fn version(pid: u32) -> ScriptedResponse {
    let session = format!("session_2026-01-01_00-00-00_000001_{pid}");
    ScriptedResponse::new(
        200,
        format!(r#"{{"version": "4", "ray_version": "2.60.0", "session_name": "{session}"}}"#),
    )
}

/// Connection refused, for `count` requests.
fn refused(count: usize) -> impl Iterator<Item = ScriptedResponse> {
    std::iter::repeat_n(ScriptedResponse::Error(Error::unavailable("connection refused", false)), count)
}

fn ensure_with(
    responses: impl IntoIterator<Item = ScriptedResponse>,
    machine: &Machine,
) -> Result<(), Error> {
    let mut responses: Vec<ScriptedResponse> = responses.into_iter().collect();
    responses.reverse();
    let responses = RefCell::new(responses);
    let http = ScriptedHttp::with_rule(move |_: &Request| {
        let next = responses.borrow_mut().pop();
        next.or_else(|| refused(1).next())
    });
    let ray = JobsClient::new("http://127.0.0.1:8265", http, VirtualClock::default())
        .expect("a client")
        .with_retry(Policy::ONCE);
    ensure(&ray, machine, &VirtualClock::default(), Head { port: DASHBOARD_PORT, idle_ms: 60_000 })
}

#[test]
fn a_running_head_is_used_even_if_it_requires_a_token() {
    for response in [version(1), ScriptedResponse::new(401, "Unauthorized")] {
        let machine = Machine::default();
        ensure_with([response], &machine).expect("a head");
        assert!(machine.started.borrow().is_empty());
    }
}

#[test]
fn another_service_on_the_port_is_an_invalid_config_error() {
    let machine = Machine::default();
    let outcome = ensure_with([ScriptedResponse::new(404, "nginx")], &machine);
    assert!(matches!(outcome, Err(Error::InvalidConfig(_))), "{outcome:?}");
    assert!(machine.started.borrow().is_empty());
}

#[test]
fn a_head_is_started_once_and_awaited_if_none_responds() {
    for is_running in [false, true] {
        let machine = Machine { is_running, ..Machine::default() };
        ensure_with(refused(20).chain([version(PID)]), &machine).expect("a head");
        assert_eq!(machine.started.borrow().len(), 1);
        assert_eq!(*machine.stopped.borrow(), 0);
    }
}

#[test]
fn a_head_of_another_process_is_joined_also_if_it_responds() {
    let machine = Machine { is_running: true, ..Machine::default() };
    // The program can be a wrapper, whose process id is not in the session's name.
    for pid in [PID, PID + 1] {
        ensure_with([version(pid)], &machine).expect("a head");
    }
    assert_eq!((machine.started.borrow().len(), *machine.stopped.borrow()), (2, 0));
}

#[test]
fn a_head_that_lost_the_race_for_the_port_is_stopped() {
    let machine = Machine::default();
    ensure_with(refused(3).chain([version(1), version(1)]), &machine).expect("a head");
    assert_eq!((machine.started.borrow().len(), *machine.stopped.borrow()), (1, 1));
}

#[test]
fn a_failed_start_reports_the_last_output_unless_another_head_responds() {
    let machine = Machine { ends_with: Some("a traceback\nValueError: no such flag"), ..Machine::default() };
    let outcome = ensure_with([], &machine);
    assert!(matches!(outcome, Err(Error::Other(text)) if text.contains("ValueError: no such flag")));
    ensure_with(refused(4).chain([version(1), version(1)]), &machine).expect("the other head");
}

#[test]
fn a_head_that_never_responds_is_unavailable() {
    assert!(matches!(ensure_with([], &Machine::default()), Err(Error::Unavailable(_))));
}

#[test]
fn heads_on_different_ports_have_different_client_ports() {
    let client = |port| command(port).args.into_iter().find(|arg| arg.contains("client-server-port"));
    assert_eq!(client(8265).as_deref(), Some("--ray-client-server-port=10001"));
    assert_ne!(client(8266), client(8265));
    assert!(client(65_535).is_some());
}
