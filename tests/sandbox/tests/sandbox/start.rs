//! Components that misbehave during instantiation, before a function is called.

use sandbox_tests::{Subject, call};
use serde_json::json;

/// Builds a component whose core module runs `body` in its start function. It exports `describe` with the
/// contract's type. The exported types must have names, which requires the nested component.
pub(crate) fn starting_with(table: &str, body: &str) -> Vec<u8> {
    let role = r#"(enum "launcher" "executor" "cluster" "pipes" "io")"#;
    let card = |role: &str| {
        format!(
            r#"(record (field "name" string) (field "version" string) (field "summary" string)
                (field "options" (list (tuple {role} string))) (field "settings" (list (tuple string string))))"#
        )
    };
    let (outer, imported, exported) = (card("$role"), card("$role-in"), card("$role-out"));
    let text = format!(
        r#"(component
            (core module $m
                {table}
                (memory (export "memory") 1)
                (func $start {body})
                (start $start)
                (func (export "describe") (result i32) i32.const 0))
            (core instance $i (instantiate $m))
            (type $role {role})
            (type $card {outer})
            (func $describe (result $card)
                (canon lift (core func $i "describe") (memory (core memory $i "memory"))))
            (component $named
                (type $role-type {role})
                (import "role" (type $role-in (eq $role-type)))
                (type $card-type {imported})
                (import "description" (type $card-in (eq $card-type)))
                (import "describe" (func $describe (result $card-in)))
                (export $role-out "role" (type $role-in))
                (type $card-again {exported})
                (export $card-out "description" (type $card-again))
                (export "describe" (func $describe) (func (result $card-out))))
            (instance $export (instantiate $named
                (with "role" (type $role)) (with "description" (type $card)) (with "describe" (func $describe))))
            (export "dagster-ray:backend/describe@0.1.0" (instance $export)))"#
    );
    wat::parse_str(text).unwrap()
}

fn outcome(bytes: &[u8]) -> String {
    let subject = Subject::new("echo", "id = 'subject'\n[limits]\ncall_seconds = 0.5\n");
    let whole = std::fs::read(subject.wasm()).unwrap();
    std::fs::write(subject.wasm(), bytes).unwrap();
    let backend = subject.backend();
    let text = call(&backend, "describe.describe", &json!({}))
        .map_or_else(|error| error.to_string(), |card| card.to_string());
    std::fs::write(subject.wasm(), whole).unwrap();
    assert_eq!(
        call(&backend, "describe.describe", &json!({})).expect("the next call is served")["name"],
        "echo"
    );
    text
}

#[test]
fn a_component_with_an_empty_start_function_is_called() {
    let card = outcome(&starting_with("", ""));
    assert!(card.contains(r#""name":"""#), "{card}");
}

#[test]
fn a_loop_in_the_start_function_ends_at_the_deadline() {
    insta::assert_snapshot!(outcome(&starting_with("", "(loop $l (br $l))")), @"subject: describe.describe: not finished within 0.5 s, and stopped");
}

#[test]
fn table_growth_ends_at_the_limit() {
    let grow = "(loop $l (drop (table.grow $t (ref.null func) (i32.const 1000))) (br $l))";
    insta::assert_snapshot!(outcome(&starting_with("(table $t 1 funcref)", grow)), @"subject: describe.describe: the component failed: it uses more than the 20000 table elements that its limit `table_elements` allows (in start)");
}

#[test]
fn several_memories_or_tables_share_one_limit() {
    let memories = "(memory 900) (memory 900) (memory 900)";
    insta::assert_snapshot!(outcome(&starting_with(memories, "")), @"subject: describe.describe: the component failed: it uses more than the 128 MiB of memory that its limit `memory_mib` allows");
    let tables = "(table 11000 funcref) (table 11000 funcref)";
    insta::assert_snapshot!(outcome(&starting_with(tables, "")), @"subject: describe.describe: the component failed: it uses more than the 20000 table elements that its limit `table_elements` allows");
}
