//! Rules that are shared by the interfaces with `options`.

use dagster_ray_runtime::model::Error;
use serde_json::{Map, Value as Json, json};

use super::expect_no_request;
use crate::harness::{CallResult, Harness};
use crate::network::RecordedRequest;
use crate::outcome::{Verdict, differs, expect, not_applicable};
use crate::schema::{Schema, UNKNOWN, with};
use crate::specs::TAG;

fn schema(harness: &Harness, interface: &str) -> Verdict<Schema> {
    harness.schema(interface).ok_or_else(|| not_applicable("it publishes no schema of these options"))
}

/// Ends the rule unless the call was rejected with an `invalid-config` that names `key`, before any request.
fn expect_invalid(harness: &Harness, called: &CallResult, key: &str) -> Verdict {
    let expected = format!("`invalid-config` that names `{key}`");
    match called.error(&expected)? {
        Error::InvalidConfig(fields)
            if fields.iter().any(|field| field.path.contains(key) || field.problem.contains(key)) => {}
        other => {
            called.expect_no_missing_required()?;
            return Err(differs(expected, crate::harness::describe_error(&other)));
        }
    }
    expect_no_request(harness, &format!("`{key}` is rejected"))
}

/// Checks that a key that is not in the schema is rejected by name.
pub(super) fn unknown_key(
    harness: &Harness,
    interface: &str,
    call: impl Fn(&Map<String, Json>) -> CallResult,
) -> Verdict {
    let options = with(&harness.options(interface), UNKNOWN, &json!(1));
    if schema(harness, interface)?.accepts(&options) {
        return Err(not_applicable("its schema allows unknown keys"));
    }
    harness.answering(http::StatusCode::BAD_REQUEST);
    expect_invalid(harness, &call(&options), UNKNOWN)
}

/// Checks that a value that violates the schema is rejected by the name of its key.
pub(super) fn wrong_values(
    harness: &Harness,
    interface: &str,
    call: impl Fn(&Map<String, Json>) -> CallResult,
) -> Verdict {
    let options = harness.options(interface);
    let mistakes = schema(harness, interface)?.mistakes(&options);
    if mistakes.is_empty() {
        return Err(not_applicable("its schema accepts any value for each key"));
    }
    for (key, wrong) in mistakes {
        harness.answering(http::StatusCode::BAD_REQUEST);
        expect_invalid(harness, &call(&with(&options, &key, &wrong)), &key)?;
    }
    Ok(())
}

/// Checks that the tag overrides the options field by field, also with `0`: options with a tag must send
/// the same requests as the merged options.
pub(super) fn tag(
    harness: &Harness,
    interface: &str,
    call: impl Fn(&Map<String, Json>, Option<&Json>) -> CallResult,
) -> Verdict {
    let options = harness.options(interface);
    let numbers = schema(harness, interface)?.numbers(&options);
    let [first, others @ ..] = numbers.as_slice() else {
        return Err(not_applicable("none of its options is a number"));
    };
    let sent = |options: &Map<String, Json>, tag: Option<&Json>| {
        harness.answering(http::StatusCode::BAD_REQUEST);
        call(options, tag);
        changes(&harness.requests())
    };
    let mut base = with(&options, first, &json!(7));
    if let Some(second) = others.first() {
        base.insert(second.clone(), json!(7));
    }
    let overridden = with(&base, first, &json!(0));
    let expected = sent(&overridden, None);
    if expected.is_empty() || expected == sent(&base, None) {
        return Err(not_applicable("its first request does not contain its options"));
    }
    let actual = sent(&base, Some(&json!({first.clone(): 0})));
    expect(actual == expected, &format!("the tag {TAG} with {first} = 0 to send {}", show(&expected)), || {
        show(&actual)
    })
}

/// Returns the bodies of all requests other than GET, with nonces replaced.
fn changes(requests: &[RecordedRequest]) -> Vec<String> {
    let changing = requests.iter().filter(|one| one.method != http::Method::GET);
    changing.map(|one| without_nonces(&String::from_utf8_lossy(&one.body))).collect()
}

/// Replaces each hexadecimal word of at least 12 digits, which is a nonce.
fn without_nonces(text: &str) -> String {
    let mut result = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_nonce = bare.len() >= 12 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
        result.push_str(if is_nonce { "…" } else { word });
    }
    result
}

fn show(sent: &[String]) -> String {
    sent.first().map_or_else(|| "nothing".to_owned(), Clone::clone)
}
