//! Arguments that Dagster does not send. A component must not trap on them.

use dagster_ray_runtime::CallError;
use fastrand::Rng;
use http::StatusCode;
use serde_json::{Map, Value as Json, json};

use super::expect_no_trap;
use crate::harness::Harness;
use crate::outcome::{Outcome, Verdict};
use crate::specs::{TAG, any_json, any_text, hostile_texts};

/// The number of random documents for each export.
const ROUNDS: usize = 24;
/// A fixed seed, so that each check uses the same documents.
const SEED: u64 = 0x5eed;

/// Calls an export once for each hostile text, with arguments made from that text.
pub(super) fn texts(harness: &Harness, export: &str, arguments: impl Fn(&str) -> Json) -> Verdict {
    for text in hostile_texts() {
        harness.answering(StatusCode::BAD_REQUEST);
        let shown: String = text.chars().take(40).collect();
        expect_no_trap(
            &harness.call(export, &arguments(&text)),
            &format!("{export} with the text {shown:?}"),
        )?;
    }
    Ok(())
}

/// Calls an export with random options, tags and texts.
pub(super) fn random_content(
    harness: &Harness,
    export: &str,
    arguments: impl Fn(&RandomContent) -> Json,
) -> Verdict {
    let mut random = Rng::with_seed(SEED);
    for round in 0..ROUNDS {
        let content =
            RandomContent::new(&mut random, &harness.options(export.split('.').next().unwrap_or_default()));
        harness.answering(StatusCode::BAD_REQUEST);
        let called = harness.call(export, &arguments(&content));
        if let Err(CallError::Arguments { problem, .. }) = &called.result {
            let reason = format!("the conformance tests pass arguments that do not fit {export}: {problem}");
            return Err(Outcome::Blocked { reason });
        }
        expect_no_trap(&called, &format!("{export}, round {round}: {}", arguments(&content)))?;
    }
    Ok(())
}

/// Random content for a spec.
pub(super) struct RandomContent {
    pub(super) options: String,
    pub(super) tags: Json,
    pub(super) text: String,
    pub(super) details: Json,
}

impl RandomContent {
    fn new(random: &mut Rng, base: &Map<String, Json>) -> Self {
        let mut document = any_json(random, 4);
        if let Json::Object(fields) = &mut document {
            fields.extend(base.clone());
        }
        let options = match random.u32(0..4) {
            0 => any_text(random),
            _ => document.to_string(),
        };
        let tag = if random.bool() { any_json(random, 3).to_string() } else { any_text(random) };
        let details = match random.u32(0..3) {
            0 => Json::Null,
            1 => Json::String(any_text(random)),
            _ => Json::String(any_json(random, 3).to_string()),
        };
        Self {
            options,
            tags: json!([[TAG, tag], [any_text(random), any_text(random)]]),
            text: any_text(random),
            details,
        }
    }
}
