//! Rules of `describe`.

use dagster_ray_runtime::capability::http::Fate;
use serde_json::{Map, Value as Json};

use super::Needs::Nothing;
use super::{Rule, expect_no_request};
use crate::bench::Bench;
use crate::outcome::{Verdict, differs, expect, not_applicable};
use crate::schema::Schema;

const DESCRIBE: &str = "describe";

pub(super) const RULES: [Rule; 5] = [
    Rule {
        interface: DESCRIBE,
        name: "the card is the same at each call",
        reason: "hosts keep it, and show its schema's mistakes before a call",
        needs: Nothing,
        run: same,
    },
    Rule {
        interface: DESCRIBE,
        name: "the card needs no setting and no request",
        reason: "it is shown before anything is configured",
        needs: Nothing,
        run: alone,
    },
    Rule {
        interface: DESCRIBE,
        name: "the card has a name, a sentence and a semantic version",
        reason: "people choose by it",
        needs: Nothing,
        run: card,
    },
    Rule {
        interface: DESCRIBE,
        name: "every other interface that it exports has a schema of its options, and no other has",
        reason: "Dagster checks a configuration against it",
        needs: Nothing,
        run: roles,
    },
    Rule {
        interface: DESCRIBE,
        name: "each schema is a JSON Schema that accepts {} or says what it requires",
        reason: "users begin with no options at all",
        needs: Nothing,
        run: schemas,
    },
];

fn described(bench: &Bench) -> Verdict<Json> {
    bench.offline(Fate::Refuse);
    bench.call_bare("describe.describe").answer()
}

fn same(bench: &Bench) -> Verdict {
    let (first, second) = (described(bench)?, described(bench)?);
    expect(first == second, "the same card twice", || format!("{first}, then {second}"))
}

fn alone(bench: &Bench) -> Verdict {
    described(bench)?;
    expect_no_request(bench, "the card")
}

fn card(bench: &Bench) -> Verdict {
    let card = described(bench)?;
    let text = |key: &str| card.get(key).and_then(Json::as_str).unwrap_or_default().trim().to_owned();
    for key in ["name", "summary"] {
        expect(!text(key).is_empty(), &format!("a {key}"), || "an empty text".to_owned())?;
    }
    let version = text("version");
    match semver::Version::parse(&version) {
        Ok(_) => Ok(()),
        Err(error) => Err(differs("a version such as 0.1.0", format!("{version:?}: {error}"))),
    }
}

fn options(bench: &Bench) -> Verdict<Map<String, Json>> {
    let card = described(bench)?;
    Ok(card.get("options").and_then(Json::as_object).cloned().unwrap_or_default())
}

fn roles(bench: &Bench) -> Verdict {
    let mut exported: Vec<&str> = bench.exported().iter().copied().filter(|one| *one != DESCRIBE).collect();
    let options = options(bench)?;
    let mut published: Vec<&str> = options.keys().map(String::as_str).collect();
    exported.sort_unstable();
    published.sort_unstable();
    let list = |all: &[&str]| if all.is_empty() { "none".to_owned() } else { all.join(", ") };
    expect(exported == published, &format!("schemas for {}", list(&exported)), || list(&published))
}

fn schemas(bench: &Bench) -> Verdict {
    let options = options(bench)?;
    if options.is_empty() {
        return Err(not_applicable("it publishes none"));
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
            || "one that refuses {} and requires no key by name".to_owned(),
        )?;
    }
    Ok(())
}
