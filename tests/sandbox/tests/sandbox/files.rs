//! Component files that the host must reject: written as text, or made from a valid one.

use dagster_ray_runtime::manifest::Manifest;
use dagster_ray_runtime::{LoadError, inspect};
use sandbox_tests::{Subject, fixture};

/// Loads a component with these bytes and a manifest without grants, and returns the error.
fn refusal(bytes: &[u8]) -> String {
    let subject = Subject::new("echo", "id = 'subject'\n");
    std::fs::write(subject.wasm(), bytes).unwrap();
    let text = subject.backend().describe().map(|_| ()).expect_err("it cannot be loaded").to_string();
    text.replace(&subject.wasm().with_extension("").display().to_string(), "subject")
}

fn refusal_of_text(text: &str) -> String {
    refusal(&wat::parse_str(text).unwrap())
}

const DESCRIBE: &str = r#"(instance $none) (export "dagster-ray:backend/describe@0.1.0" (instance $none))"#;

#[test]
fn an_unknown_import_is_refused() {
    for import in [
        "wasi:http/incoming-handler@0.2.12",
        "wasi:nn/graph@0.2.0",
        "dagster-ray:host/secrets@0.1.0",
        "anything",
    ] {
        let text = refusal_of_text(&format!(r#"(component (import "{import}" (instance)) {DESCRIBE})"#));
        let expected = format!("component subject.wasm: imports {import}, which this host does not provide");
        assert_eq!(text, expected);
    }
}

#[test]
fn an_export_that_differs_from_the_contract_is_refused_with_the_difference() {
    let describe = |result: &str, name: &str| {
        refusal_of_text(&format!(
            r#"(component
                (core module $m
                    (memory (export "memory") 1)
                    (func (export "f") (result i32) unreachable))
                (core instance $i (instantiate $m))
                (func $f (result {result}) (canon lift (core func $i "f") (memory (core memory $i "memory"))))
                (instance $d (export "{name}" (func $f)))
                (export "dagster-ray:backend/describe@0.1.0" (instance $d)))"#
        ))
    };
    let begin = "component subject.wasm: its export dagster-ray:backend/describe@0.1.0 does not match the contract: describe: ";
    let end = ". This host implements dagster-ray:backend@0.1.0: build the component against the WIT of that version";
    for (text, problem) in [
        (refusal_of_text(&format!("(component {DESCRIBE})")), "it is missing"),
        (describe("string", "explain"), "it is missing"),
        (describe("string", "describe"), "its result: string, not `description`"),
        (describe("(list u8)", "describe"), "its result: a list, not `description`"),
    ] {
        assert_eq!(text, format!("{begin}{problem}{end}"));
    }
}

#[test]
fn parameters_of_exported_functions_are_compared() {
    let plan = |parameters: &str| {
        refusal_of_text(&format!(
            r#"(component
                (core module $m
                    (memory (export "memory") 1)
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                    (func (export "f") (param i32 i32) (result i32) unreachable))
                (core instance $i (instantiate $m))
                (func $f {parameters} (result string)
                    (canon lift (core func $i "f") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
                (instance $d (export "plan" (func $f)))
                (export "dagster-ray:backend/launcher@0.1.0" (instance $d)))"#
        ))
    };
    let text = plan(r#"(param "run" string)"#);
    assert!(text.contains("plan: parameter `run`: string, not `run-spec`"), "{text}");
    let text = plan(r#"(param "what" string)"#);
    assert!(text.contains("plan: its parameters are (what), not (run)"), "{text}");
}

#[test]
fn an_async_export_is_refused() {
    let text = r#"(component
        (core module $m (func (export "f") (result i32) unreachable) (func (export "c") (param i32 i32 i32) (result i32) unreachable) (memory (export "memory") 1))
        (core instance $i (instantiate $m))
        (type $t (func async (result string)))
        (func $f (type $t) (canon lift (core func $i "f") async (callback (core func $i "c")) (memory (core memory $i "memory"))))
        (instance $d (export "describe" (func $f)))
        (export "dagster-ray:backend/describe@0.1.0" (instance $d)))"#;
    let text = refusal_of_text(text);
    assert!(text.contains("async"), "{text}");
}

#[test]
fn other_contract_versions_are_refused_by_name() {
    for version in ["0.0.9", "0.2.0", "1.0.0", "0.10.0"] {
        let text = refusal_of_text(&format!(
            r#"(component (instance $none) (export "dagster-ray:backend/describe@{version}" (instance $none)))"#
        ));
        assert!(text.contains(&format!("describe@{version}")) && text.contains("0.1.x"), "{text}");
    }
}

#[test]
fn a_component_without_backend_exports_lists_its_exports_up_to_a_limit() {
    let exports: String =
        (0..900).map(|n| format!(r#"(export "elsewhere:package/number{n}" (instance $none))"#)).collect();
    let text = refusal_of_text(&format!("(component (instance $none) {exports})"));
    assert!(text.contains("number11, and 888 more") && text.len() < 1_000, "{text}");
    // With more instances, the engine's own limit applies first.
    let exports: String =
        (0..1_100).map(|n| format!(r#"(export "elsewhere:package/number{n}" (instance $none))"#)).collect();
    let text = refusal_of_text(&format!("(component (instance $none) {exports})"));
    assert!(text.contains("limit of 1000"), "{text}");
}

#[test]
fn huge_names_do_not_reach_the_error() {
    let long = "x".repeat(90_000);
    let text = refusal_of_text(&format!(r#"(component (import "{long}" (instance)) {DESCRIBE})"#));
    assert_eq!(
        text,
        "component subject.wasm: a name of its imports has 90000 bytes, more than the limit of 256"
    );
    let text = refusal_of_text(&format!(
        r#"(component
            (core module $m (func (export "f") (param i32) (result i32) unreachable))
            (core instance $i (instantiate $m))
            (type $record (record (field "{long}" u32)))
            (export $exported "r" (type $record))
            (func $f (param "{long}" $exported) (result u32) (canon lift (core func $i "f")))
            (instance $own (export "describe" (func $f)))
            (export "dagster-ray:backend/describe@0.1.0" (instance $own)))"#
    ));
    assert!(text.contains("does not match the contract") && text.len() < 2_000, "{text:.400}");
}

/// Returns the offsets at which the sections of a component end. The bytes before each offset are a valid
/// component.
fn section_ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = vec![8];
    while let Some(mut at) = ends.last().copied().filter(|end| *end < bytes.len()) {
        // The section's id, then its length in LEB128.
        let (mut length, mut shift) = (0, 0);
        loop {
            at += 1;
            length |= usize::from(bytes[at] & 0x7f) << shift;
            shift += 7;
            if bytes[at] & 0x80 == 0 {
                break;
            }
        }
        ends.push(at + 1 + length);
    }
    assert_eq!(ends.pop(), Some(bytes.len()));
    ends
}

#[test]
fn a_truncated_file_is_refused() {
    let whole = std::fs::read(fixture("echo")).unwrap();
    let ends = section_ends(&whole);
    let lengths = (0..whole.len()).step_by(whole.len() / 97).chain([1, 4, 7, 9, whole.len() - 1]);
    for length in lengths.filter(|length| !ends.contains(length)) {
        let text = refusal(&whole[..length]);
        assert!(text.starts_with("component subject.wasm: "), "{length}: {text}");
    }
}

#[test]
fn a_pinned_file_truncated_between_sections_is_refused() {
    let whole = std::fs::read(fixture("echo")).unwrap();
    let known = Subject::new("echo", "id = 'subject'\n").backend().describe().unwrap().1;
    let subject = Subject::new("echo", &format!("id = 'subject'\nsha256 = '{known}'\n"));
    for length in section_ends(&whole) {
        std::fs::write(subject.wasm(), &whole[..length]).unwrap();
        let refused = subject.backend().describe().map(|_| ());
        assert!(matches!(refused, Err(LoadError::Digest { .. })), "{length}: {refused:?}");
    }
}

#[test]
fn a_pinned_file_with_one_changed_byte_is_refused_with_both_digests() {
    let whole = std::fs::read(fixture("echo")).unwrap();
    let known = Subject::new("echo", "id = 'subject'\n").backend().describe().unwrap().1;
    let by_manifest = Subject::new("echo", &format!("id = 'subject'\nsha256 = '{known}'\n"));
    let by_operator = Subject::new("echo", "id = 'subject'\n").pinned(&known);
    for (subject, pinned_by) in [(by_manifest, "subject.toml"), (by_operator, "the configuration")] {
        assert_eq!(subject.backend().describe().unwrap().1, known);
        // Most of the changed files are still valid components.
        for at in (8..whole.len()).step_by(whole.len() / 41) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            std::fs::write(subject.wasm(), &bytes).unwrap();
            let refused = subject.backend().describe().map(|_| ());
            let Err(LoadError::Digest { found, expected, pinned_by: by, .. }) = refused else {
                panic!("byte {at}, pinned by {pinned_by}: {refused:?}");
            };
            assert_eq!(expected, known);
            assert_ne!(found, known);
            assert!(by.ends_with(pinned_by), "{by}");
        }
    }
}

#[test]
fn oversized_special_and_compressed_files_are_refused() {
    let subject = Subject::new("echo", "id = 'subject'\n");
    let wasm = subject.wasm();
    let error = || inspect(&wasm, None).map(|_| ()).unwrap_err().to_string();
    std::fs::OpenOptions::new().write(true).open(&wasm).unwrap().set_len((64 << 20) + 1).unwrap();
    assert!(error().contains("67108865 bytes, more than the limit of 67108864"), "{}", error());
    std::fs::remove_file(&wasm).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &wasm).unwrap();
    assert!(error().contains("it is not a regular file"), "{}", error());
    std::fs::remove_file(&wasm).unwrap();
    std::fs::create_dir(&wasm).unwrap();
    assert!(error().contains("it is not a regular file"), "{}", error());
    assert!(refusal(b"\x1f\x8b\x08\0\0\0\0\0compressed").contains("not a WebAssembly file"));
}

#[test]
fn every_built_in_component_uses_its_grants_and_exports_the_contract() {
    let folder =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../host/python/dagster_ray/components");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            let inspection = inspect(&path, None).unwrap();
            assert_eq!(inspection.unused, [] as [String; 0], "{}", path.display());
            assert_eq!(inspection.missing, [] as [&str; 0], "{}", path.display());
            assert_eq!(inspection.contract, "0.1.0");
            assert_eq!(inspection.pinned, Some(inspection.digest), "{}", Manifest::path_of(&path).display());
            seen += 1;
        }
    }
    assert!(seen >= 5, "{seen} components");
}
