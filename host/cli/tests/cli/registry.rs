//! Pull and push against a real registry, whose program `cargo xtask test` builds and names in
//! DAGSTER_RAY_TEST_REGISTRY.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::common::{PLAN, TestEnvironment};

struct Registry {
    process: Child,
    port: u16,
}

impl Registry {
    fn start() -> Self {
        let program = std::env::var_os("DAGSTER_RAY_TEST_REGISTRY")
            .expect("DAGSTER_RAY_TEST_REGISTRY names the registry's program");
        let configuration =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/cluster/programs/registry/config.yml");
        let mut process =
            Command::new(program).args(["serve", configuration]).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
        let port = lines.by_ref().find_map(|line| {
            let (_, rest) = line.split_once("listening on 127.0.0.1:")?;
            rest.split(|other: char| !other.is_ascii_digit()).next()?.parse().ok()
        });
        let port = port.expect("the registry logs its port");
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, port }
    }

    fn reference(&self, rest: &str) -> String {
        format!("oci://127.0.0.1:{}/{rest}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
#[ignore = "needs a registry"]
fn pulled_component_can_be_called_without_the_registry() {
    let (environment, registry) = (TestEnvironment::new(), Registry::start());
    let pushed = environment.run(["push", "echo", &registry.reference("team/echo:1.0"), "--json"]).json();
    let pinned = pushed["reference"].as_str().unwrap().to_owned();
    assert!(pinned.starts_with(&registry.reference("team/echo@sha256:")), "{pinned}");
    let again = environment.run(["push", "components/echo.wasm", &registry.reference("team/echo:2.0")]);
    assert_eq!(again.stdout().trim(), pinned, "the same file has the same digest");

    // A second user, who pulls by tag.
    let other = TestEnvironment::new();
    let pulled = other.run(["pull", &registry.reference("team/echo:1.0")]);
    assert_eq!((pulled.code(), pulled.stdout().trim()), (0, pinned.as_str()), "{}", pulled.stderr());
    drop(registry);
    let answer = other.run(["call", &pinned, "describe.describe"]).json();
    assert_eq!(answer["name"], "echo");
    let listed = other.run(["components", "--json"]).json();
    let row = listed.as_array().unwrap().iter().find(|row| row["source"] == "pulled").unwrap();
    assert_eq!((&row["backend"], &row["digest"]), (&pinned.as_str().into(), &pushed["sha256"]));
    let freed = other.run(["clean", "--json"]).json();
    assert_eq!(freed["pulled"], 1);
    let gone = other.run(["call", &pinned, "describe.describe"]);
    assert!(gone.fails(1).contains("the registry cannot be used"), "{}", gone.stderr());
}

#[test]
#[ignore = "needs a registry"]
fn the_manifest_travels_with_the_component() {
    let (environment, registry) = (TestEnvironment::new(), Registry::start());
    let manifest = "id = \"echo\"\n\n[limits]\nmemory_mib = 17   # seventeen\n";
    environment.install("echo", manifest);
    let pushed = environment.run(["push", "echo", &registry.reference("echo:1")]);
    let pinned = pushed.stdout().trim().to_owned();
    let pulled = environment.run(["pull", &pinned, "--output", "here/mine.wasm", "--json"]).json();
    assert_eq!(pulled["reference"], pinned.as_str());
    assert_eq!(std::fs::read_to_string(environment.path("here/mine.toml")).unwrap(), manifest);
    let (here, there) = (environment.path("here/mine.wasm"), environment.components().join("echo.wasm"));
    assert_eq!(std::fs::read(here).unwrap(), std::fs::read(there).unwrap());

    // Without a manifest, none is added, and a warning is printed.
    std::fs::remove_file(environment.components().join("echo.toml")).unwrap();
    let bare = environment.run(["push", "echo", &registry.reference("echo:2")]);
    assert!(bare.stderr().contains("there is no manifest"), "{}", bare.stderr());
    assert_ne!(bare.stdout().trim(), pinned, "the digest covers the manifest");
}

#[test]
#[ignore = "needs a registry"]
fn a_trap_of_a_pulled_component_names_its_function() {
    let (environment, registry) = (TestEnvironment::new(), Registry::start());
    let manifest = "id = \"hostile\"\n[grants]\nhttp = [\"address\"]\npackages = true\nobjects = [\"ours\"]\nprocesses = { echo = [[\"hello\"]] }\n";
    environment.install_shipped("hostile", manifest);
    let pushed = environment.run(["push", "hostile", &registry.reference("hostile:1")]);
    let pinned = pushed.stdout().trim().to_owned();

    let other = TestEnvironment::new();
    other.run(["pull", &pinned, "--output", "mine.wasm", "--json"]).json();
    let names = environment.components().join("hostile.names");
    assert_eq!(std::fs::read(other.path("mine.names")).unwrap(), std::fs::read(names).unwrap());
    for component in [pinned.as_str(), "mine.wasm"] {
        let trapped = other.run(["call", component, "launcher.plan", PLAN, "--setting", "attack=stack"]);
        assert!(trapped.fails(4).contains("fixture_hostile::attacks::stack"), "{}", trapped.stderr());
    }
}

#[test]
#[ignore = "needs a registry"]
fn missing_artifact_and_invalid_component_are_distinct_errors() {
    let (environment, registry) = (TestEnvironment::new(), Registry::start());
    let missing = environment.run(["pull", &registry.reference("nothing:1")]);
    assert!(missing.fails(1).contains("has no such artifact"), "{}", missing.stderr());
    std::fs::write(environment.path("not.wasm"), "text").unwrap();
    let refused = environment.run(["push", "not.wasm", &registry.reference("nothing:1")]);
    assert!(refused.fails(3).contains("not a WebAssembly file"), "{}", refused.stderr());
}

#[test]
#[ignore = "needs a registry"]
fn a_pull_verifies_the_signature_that_the_policy_requires() {
    let (environment, registry) = (TestEnvironment::new(), Registry::start());
    for name in ["release", "other"] {
        environment.run(["keygen", name, "--no-password", "--json"]).json();
    }
    let public = std::fs::read_to_string(environment.path("release.pub")).unwrap();
    let key = public.lines().nth(1).unwrap();
    let policy = environment.path("policy.toml");
    std::fs::write(&policy, format!("[signatures.keys]\nrelease = \"{key}\"\n")).unwrap();
    let push = |tag: &str, key: &str| {
        let reference = registry.reference(&format!("team/echo:{tag}"));
        let pushed = environment.run(["push", "echo", &reference, "--sign", key, "--json"]).json();
        assert_eq!(pushed["with_signature"], true);
        pushed["reference"].as_str().unwrap().to_owned()
    };
    let (signed, forged) = (push("signed", "release.key"), push("forged", "other.key"));
    let unsigned = environment.run(["push", "echo", &registry.reference("team/echo:unsigned")]);
    let unsigned = unsigned.stdout().trim().to_owned();
    let manifest = std::fs::read_to_string(environment.components().join("echo.toml")).unwrap();
    assert_eq!(manifest, "id = \"echo\"\n", "the local files stay as they are");

    let user = TestEnvironment::new();
    let run = |arguments: [&str; 4]| {
        let output = user.command(arguments).env("DAGSTER_RAY_POLICY", &policy).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (reference, problem) in [(&unsigned, "is not signed"), (&forged, "is signed by the key")] {
        let (code, text) = run(["pull", reference, "--output", "refused.wasm"]);
        assert_eq!(code, Some(3), "{text}");
        assert!(text.contains(problem) && text.contains(reference.as_str()), "{text}");
        assert!(text.contains("release (") && text.contains("policy.toml"), "{text}");
        assert!(!user.path("refused.wasm").exists());
    }
    assert!(
        user.run(["components", "--json"])
            .json()
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["source"] != "pulled")
    );

    let (code, text) = run(["pull", &signed, "--output", "here.wasm"]);
    assert_eq!(code, Some(0), "{text}");
    for component in [signed.as_str(), "here.wasm"] {
        let (code, text) = run(["call", component, "describe.describe", "--quiet"]);
        assert_eq!(code, Some(0), "{text}");
    }
    // What a user without the policy has pulled is verified on each use.
    assert_eq!(user.run(["pull", &unsigned]).code(), 0);
    for command in ["pull", "inspect"] {
        let (code, text) = run([command, &unsigned, "--quiet", "--json"]);
        assert_eq!(code, Some(3), "{text}");
    }
}
