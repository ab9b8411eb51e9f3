//! Rules of `describe`.

use dagster_ray_recording::InjectedFault;
use serde_json::{Map, Value as Json};

use super::Needs::Nothing;
use super::{Rule, expect_no_request};
use crate::harness::Harness;
use crate::outcome::{Verdict, differs, expect, not_applicable};
use crate::schema::Schema;

const DESCRIBE: &str = "describe";
const RECONCILER: &str = "reconciler";

pub(super) const RULES: [Rule; 5] = [
    Rule {
        interface: DESCRIBE,
        name: "the description is the same at each call",
        reason: "hosts cache it and validate options against its schemas before a call",
        needs: Nothing,
        run: same,
    },
    Rule {
        interface: DESCRIBE,
        name: "the description requires no setting and sends no request",
        reason: "it is shown before anything is configured",
        needs: Nothing,
        run: no_request,
    },
    Rule {
        interface: DESCRIBE,
        name: "the description has a name, a summary and a semantic version",
        reason: "users choose a component by them",
        needs: Nothing,
        run: card,
    },
    Rule {
        interface: DESCRIBE,
        name: "each exported interface with options has an options schema, and no other interface has one",
        reason: "Dagster validates configuration against the schemas",
        needs: Nothing,
        run: roles,
    },
    Rule {
        interface: DESCRIBE,
        name: "each schema is a valid JSON Schema that accepts {} or names its required keys",
        reason: "users start without options",
        needs: Nothing,
        run: schemas,
    },
];

fn described(harness: &Harness) -> Verdict<Json> {
    harness.offline(InjectedFault::Refuse);
    harness.call_bare("describe.describe").answer()
}

fn same(harness: &Harness) -> Verdict {
    let (first, second) = (described(harness)?, described(harness)?);
    expect(first == second, "the same description twice", || format!("{first}, then {second}"))
}

fn no_request(harness: &Harness) -> Verdict {
    described(harness)?;
    expect_no_request(harness, "the description")
}

fn card(harness: &Harness) -> Verdict {
    let description = described(harness)?;
    let text = |key: &str| description.get(key).and_then(Json::as_str).unwrap_or_default().trim().to_owned();
    for key in ["name", "summary"] {
        expect(!text(key).is_empty(), &format!("a {key}"), || "an empty text".to_owned())?;
    }
    let version = text("version");
    match semver::Version::parse(&version) {
        Ok(_) => Ok(()),
        Err(error) => Err(differs("a version such as 0.1.0", format!("{version:?}: {error}"))),
    }
}

fn options(harness: &Harness) -> Verdict<Map<String, Json>> {
    let description = described(harness)?;
    Ok(description.get("options").and_then(Json::as_object).cloned().unwrap_or_default())
}

fn roles(harness: &Harness) -> Verdict {
    let has_options = |interface: &&str| ![DESCRIBE, RECONCILER].contains(interface);
    let mut exported: Vec<&str> = harness.exported().iter().copied().filter(has_options).collect();
    let options = options(harness)?;
    let mut published: Vec<&str> = options.keys().map(String::as_str).collect();
    exported.sort_unstable();
    published.sort_unstable();
    let list = |all: &[&str]| if all.is_empty() { "none".to_owned() } else { all.join(", ") };
    expect(exported == published, &format!("schemas for {}", list(&exported)), || list(&published))
}

fn schemas(harness: &Harness) -> Verdict {
    let options = options(harness)?;
    if options.is_empty() {
        return Err(not_applicable("it publishes no schemas"));
    }
    for (role, document) in &options {
        let text = match document {
            Json::String(text) => text.clone(),
            document => document.to_string(),
        };
        let schema =
            Schema::new(&text).map_err(|problem| differs(format!("a JSON Schema for {role}"), problem))?;
        let empty = schema.accepts(&Map::new());
        expect(
            empty || !schema.required().is_empty(),
            &format!("a schema for {role} that accepts {{}}"),
            || "a schema that rejects {} and names no required key".to_owned(),
        )?;
    }
    Ok(())
}
