//! Keys and signatures of components.

use std::os::unix::fs::PermissionsExt;

use crate::common::{TestEnvironment, fixture};

/// Creates an environment with the key `release`, and the component `ours.wasm` with a manifest.
fn environment() -> TestEnvironment {
    let environment = TestEnvironment::new();
    environment.run(["keygen", "release", "--no-password", "--json"]).json();
    std::fs::copy(fixture("echo"), environment.path("ours.wasm")).unwrap();
    std::fs::write(environment.path("ours.toml"), "id = \"ours\"  # ours\n").unwrap();
    environment
}

/// Writes a policy that names the public key of `name`, and returns its path.
fn policy(environment: &TestEnvironment, name: &str) -> String {
    let public = std::fs::read_to_string(environment.path(&format!("{name}.pub"))).unwrap();
    let key = public.lines().nth(1).unwrap();
    let path = environment.path("policy.toml");
    std::fs::write(&path, format!("[signatures.keys]\n{name} = \"{key}\"\n")).unwrap();
    path.display().to_string()
}

#[test]
fn a_pair_of_keys_is_private_and_never_replaced() {
    let environment = TestEnvironment::new();
    let made = environment.run(["keygen", "release", "--no-password"]);
    let public = std::fs::read_to_string(environment.path("release.pub")).unwrap();
    let line = format!("[signatures.keys]\nrelease = \"{}\"\n", public.lines().nth(1).unwrap());
    assert_eq!(made.stdout(), line, "{}", made.stderr());
    let mode = std::fs::metadata(environment.path("release.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = environment.run(["keygen", "release", "--no-password"]);
    assert!(again.fails(2).contains("release.key exists"), "{}", again.stderr());
    assert!(environment.run(["keygen", "a b", "--no-password"]).fails(2).contains("a name of letters"));
}

#[test]
fn a_key_with_a_password_signs_with_that_password_only() {
    let environment = environment();
    let with = |password: &str, arguments: [&str; 4]| {
        environment.command(arguments).env("DAGSTER_RAY_KEY_PASSWORD", password).output().unwrap()
    };
    assert!(with("secret", ["keygen", "locked", "--json", "-q"]).status.success());
    let wrong = with("wrong", ["sign", "ours.wasm", "--key", "locked.key"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("locked.key"), "{wrong:?}");
    assert!(!environment.path("ours.toml.minisig").exists());
    assert!(with("secret", ["sign", "ours.wasm", "--key", "locked.key"]).status.success());
    assert!(environment.path("ours.toml.minisig").exists());
}

#[test]
fn a_signed_file_can_be_called_and_inspected_under_the_policy() {
    let environment = environment();
    let path = policy(&environment, "release");
    let call = || {
        let mut command = environment.command(["call", "ours.wasm", "describe.describe"]);
        command.env("DAGSTER_RAY_POLICY", &path).output().unwrap()
    };
    let refused = call();
    assert_eq!(refused.status.code(), Some(3));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("ours.toml.minisig") && text.contains("policy.toml"), "{text}");

    let signed = environment.run(["sign", "ours.wasm", "--key", "release.key", "--json"]).json();
    assert!(call().status.success());
    let inspected = environment
        .command(["inspect", "ours.wasm", "--json"])
        .env("DAGSTER_RAY_POLICY", &path)
        .output()
        .unwrap();
    let inspected: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected["signature"]["key"], signed["key"]);
    assert_eq!(inspected["signature"]["trusted_as"], "release");
    let manifest = std::fs::read_to_string(environment.path("ours.toml")).unwrap();
    assert!(
        manifest.starts_with("sha256 = \"") && manifest.ends_with("id = \"ours\"  # ours\n"),
        "{manifest}"
    );

    std::fs::write(environment.path("ours.toml"), manifest.replace("ours\"", "more\"")).unwrap();
    assert_eq!(call().status.code(), Some(3));
}

#[test]
fn a_component_without_a_manifest_and_a_file_that_is_no_key_are_refused() {
    let environment = environment();
    let public = environment.run(["sign", "ours.wasm", "--key", "release.pub"]);
    assert!(public.fails(2).contains("release.pub"), "{}", public.stderr());
    std::fs::remove_file(environment.path("ours.toml")).unwrap();
    let bare = environment.run(["sign", "ours.wasm", "--key", "release.key"]);
    assert!(bare.fails(3).contains("ours.toml"), "{}", bare.stderr());
}
