//! Rules of `io`, on a value store in memory.

use dagster_ray_recording::InjectedFault;
use dagster_ray_runtime::model::Error;
use serde_json::{Map, Value as Json, json};

use super::Needs::Nothing;
use super::{Rule, hostile, options};
use crate::harness::{CallResult, Harness, describe_error};
use crate::memory_store::{now, text, value};
use crate::outcome::{Verdict, differs, expect};
use crate::specs;

const IO: &str = "io";
const RUN: &str = "8c1f7a52-0000-4000-8000-000000000005";

pub(super) const RULES: [Rule; 13] = [
    Rule {
        interface: IO,
        name: "an unknown option is rejected by name before any value is stored",
        reason: "a misspelled key would be ignored and a value would outlive its retention time",
        needs: Nothing,
        run: unknown_key,
    },
    Rule {
        interface: IO,
        name: "an option of the wrong type is rejected by name before any value is stored",
        reason: "the loss of a value that was stored under wrong options is noticed much later",
        needs: Nothing,
        run: wrong_values,
    },
    Rule {
        interface: IO,
        name: "a saved value is loaded unchanged",
        reason: "a step receives the output of an earlier step",
        needs: Nothing,
        run: round,
    },
    Rule {
        interface: IO,
        name: "loading a missing value returns not-found, and the error names the key",
        reason: "users have to find out which step to run again",
        needs: Nothing,
        run: missing,
    },
    Rule {
        interface: IO,
        name: "saving again replaces the value",
        reason: "a step that is retried saves again",
        needs: Nothing,
        run: overwrite,
    },
    Rule {
        interface: IO,
        name: "each output, mapping key, step, run and partition has its own key",
        reason: "with a shared key, one value would overwrite another",
        needs: Nothing,
        run: keys,
    },
    Rule {
        interface: IO,
        name: "an asset is loaded by every run, and an output only by its own run",
        reason: "an asset outlives the run that made it",
        needs: Nothing,
        run: assets,
    },
    Rule {
        interface: IO,
        name: "partitions are loaded in the requested order, each with its name",
        reason: "the step receives a mapping from partitions to values",
        needs: Nothing,
        run: many,
    },
    Rule {
        interface: IO,
        name: "deleting the values of a run or an asset deletes exactly the listed values",
        reason: "clean-up after one run must not delete values that another run needs",
        needs: Nothing,
        run: delete,
    },
    Rule {
        interface: IO,
        name: "values of succeeded runs expire, and values of live or unknown runs do not",
        reason: "stores fill up, but a run that Dagster does not list may have just begun",
        needs: Nothing,
        run: expired,
    },
    Rule {
        interface: IO,
        name: "no text in an address causes a trap",
        reason: "partitions and mapping keys come from users' data",
        needs: Nothing,
        run: texts,
    },
    Rule {
        interface: IO,
        name: "no content of options causes a trap",
        reason: "a trap is a defect and explains nothing to the user",
        needs: Nothing,
        run: random_content,
    },
    Rule {
        interface: IO,
        name: "no error or log line contains a value or the name of its type",
        reason: "values are users' data, and the type is all that a component can read of one",
        needs: Nothing,
        run: no_leak,
    },
];

fn output(run_id: &str, step: &str, name: &str, mapping: Option<&str>) -> Json {
    json!({
        "asset": null, "partition": null, "run_id": run_id, "step_key": step, "output_name": name,
        "mapping_key": mapping,
    })
}

fn asset(run_id: &str, parts: &[&str], partition: Option<&str>) -> Json {
    json!({
        "asset": parts, "partition": partition, "run_id": run_id, "step_key": "make", "output_name": "result",
        "mapping_key": null,
    })
}

fn context(harness: &Harness) -> Json {
    specs::io_context(&Json::Object(harness.options(IO)).to_string())
}

fn begin(harness: &Harness) {
    harness.offline(InjectedFault::Refuse);
    harness.store.clear();
}

fn save_with(harness: &Harness, options: &Map<String, Json>) -> CallResult {
    let context = specs::io_context(&Json::Object(options.clone()).to_string());
    let arguments = json!({"address": output(RUN, "step", "result", None), "value": 0, "context": context});
    harness.call_values("io.save", &arguments, vec![value("kept")])
}

fn save(harness: &Harness, address: &Json, content: &str) -> Verdict<Json> {
    let arguments = json!({"address": address, "value": 0, "context": context(harness)});
    harness.call_values("io.save", &arguments, vec![value(content)]).answer()
}

fn load(harness: &Harness, address: &Json) -> CallResult {
    harness.call("io.load", &json!({"address": address, "context": context(harness)}))
}

fn loaded(harness: &Harness, address: &Json) -> Verdict<String> {
    let called = load(harness, address);
    called.answer()?;
    called.values.first().and_then(text).ok_or_else(|| differs("the value that was saved", "another value"))
}

fn select(harness: &Harness, export: &str, selection: &Json) -> Verdict<Json> {
    harness.call(export, &json!({"selection": selection, "context": context(harness)})).answer()
}

fn unknown_key(harness: &Harness) -> Verdict {
    begin(harness);
    options::unknown_key(harness, IO, |options| save_with(harness, options))?;
    expect_empty_store(harness)
}

fn wrong_values(harness: &Harness) -> Verdict {
    begin(harness);
    options::wrong_values(harness, IO, |options| save_with(harness, options))?;
    expect_empty_store(harness)
}

/// Ends the rule if a call with invalid options has stored a value.
fn expect_empty_store(harness: &Harness) -> Verdict {
    let keys = harness.store.keys();
    expect(keys.is_empty(), "no value is stored under invalid options", || {
        format!("{} stored: {}", keys.len(), keys.join(", "))
    })
}

fn no_leak(harness: &Harness) -> Verdict {
    match harness.find_leak(IO) {
        None => Ok(()),
        Some(leak) => Err(differs("errors and log lines without values and the names of their types", leak)),
    }
}

fn round(harness: &Harness) -> Verdict {
    begin(harness);
    let address = output(RUN, "step", "result", None);
    let stored = save(harness, &address, "one")?;
    let content = loaded(harness, &address)?;
    expect(content == "one", "the value that was saved", || content.clone())?;
    let key = stored["key"].as_str().unwrap_or_default();
    expect(!key.is_empty(), "a key", || stored.to_string())?;
    let kept = harness.store.keys();
    expect(kept.iter().any(|one| one == key), key, || kept.join(", "))
}

fn missing(harness: &Harness) -> Verdict {
    begin(harness);
    let address = output(RUN, "step", "result", None);
    let stored = save(harness, &address, "one")?;
    let key = stored["key"].as_str().unwrap_or_default().to_owned();
    harness.store.clear();
    match load(harness, &address).error("`not-found`")? {
        Error::NotFound(text) if text.contains(&key) => Ok(()),
        other => Err(differs(format!("`not-found` that names {key}"), describe_error(&other))),
    }
}

fn overwrite(harness: &Harness) -> Verdict {
    begin(harness);
    let address = asset(RUN, &["a"], None);
    save(harness, &address, "one")?;
    save(harness, &address, "two")?;
    let content = loaded(harness, &address)?;
    expect(content == "two", "the second value", || content.clone())
}

fn keys(harness: &Harness) -> Verdict {
    begin(harness);
    let other = "8c1f7a52-0000-4000-8000-000000000006";
    let addresses = [
        output(RUN, "step", "result", None),
        output(RUN, "step", "other", None),
        output(RUN, "step", "result", Some("a")),
        output(RUN, "step", "result", Some("b")),
        output(RUN, "step[a]", "result", None),
        output(RUN, "step/result", "a", None),
        output(other, "step", "result", None),
        asset(RUN, &["a", "b"], None),
        asset(RUN, &["a/b"], None),
        asset(RUN, &["a"], Some("b")),
        asset(RUN, &["a"], Some("b|c")),
        asset(RUN, &["a"], Some("B")),
    ];
    for (at, address) in addresses.iter().enumerate() {
        save(harness, address, &at.to_string())?;
    }
    for (at, address) in addresses.iter().enumerate() {
        let content = loaded(harness, address)?;
        expect(content == at.to_string(), &format!("the value saved for {address}"), || {
            let by = content.parse().ok().and_then(|at: usize| addresses.get(at));
            by.map_or_else(String::new, |by| format!("the value saved for {by}"))
        })?;
    }
    Ok(())
}

fn assets(harness: &Harness) -> Verdict {
    begin(harness);
    let other = "8c1f7a52-0000-4000-8000-000000000006";
    save(harness, &asset(RUN, &["a"], None), "asset")?;
    let content = loaded(harness, &asset(other, &["a"], None))?;
    expect(content == "asset", "the asset, for another run", || content.clone())?;
    save(harness, &output(RUN, "step", "result", None), "output")?;
    match load(harness, &output(other, "step", "result", None)).error("`not-found` for another run")? {
        Error::NotFound(_) => Ok(()),
        error => Err(differs("`not-found` for another run's output", describe_error(&error))),
    }
}

fn many(harness: &Harness) -> Verdict {
    begin(harness);
    let names = ["2026-01-02", "2026-01-01", "2026-01-03"];
    let addresses: Vec<Json> = names.iter().map(|name| asset(RUN, &["a"], Some(name))).collect();
    for (name, address) in names.iter().zip(&addresses) {
        save(harness, address, name)?;
    }
    let arguments = json!({"addresses": addresses, "context": context(harness)});
    let called = harness.call("io.load-many", &arguments);
    let answer = called.answer()?;
    expect(answer["partitions"] == json!(names), &names.join(", "), || answer["partitions"].to_string())?;
    let contents: Vec<String> = called.values.iter().filter_map(text).collect();
    expect(contents == names, "the value of each partition", || contents.join(", "))
}

fn delete(harness: &Harness) -> Verdict {
    begin(harness);
    let other = "8c1f7a52-0000-4000-8000-000000000006";
    save(harness, &output(RUN, "one", "result", None), "1")?;
    save(harness, &output(RUN, "two", "result", None), "2")?;
    save(harness, &output(other, "one", "result", None), "3")?;
    save(harness, &asset(RUN, &["a"], Some("p")), "4")?;
    save(harness, &asset(RUN, &["a"], Some("q")), "5")?;
    save(harness, &asset(RUN, &["ab"], None), "6")?;
    let of_run = json!({"runs": [RUN]});
    let of_asset = json!({"asset": ["a"]});
    let count = |answer: &Json| answer.as_array().map_or(0, Vec::len);
    for (selection, name) in [(&of_run, "the run"), (&of_asset, "the asset")] {
        let found = count(&select(harness, "io.list", selection)?);
        expect(found == 2, &format!("the 2 values of {name}"), || found.to_string())?;
    }
    let all = count(&select(harness, "io.list", &json!({"runs": []}))?);
    expect(all == 3, "the 3 values of all runs, without assets", || all.to_string())?;
    for (selection, name) in [(&of_run, "the run"), (&of_asset, "the asset")] {
        let removed = select(harness, "io.delete", selection)?;
        expect(removed == 2, &format!("2 removed of {name}"), || removed.to_string())?;
        let again = select(harness, "io.delete", selection)?;
        expect(again == 0, &format!("0 removed of {name}, the second time"), || again.to_string())?;
    }
    let left = harness.store.keys();
    expect(left.len() == 2, "the other run's value and the other asset", || left.join(", "))
}

fn expired(harness: &Harness) -> Verdict {
    begin(harness);
    for run in ["live", "succeeded", "failed", "forgotten"] {
        save(harness, &output(run, "step", "result", None), run)?;
    }
    save(harness, &asset("forgotten", &["a"], None), "asset")?;
    let life = |run: &str, ended: Option<u64>| json!({"run_id": run, "state": run, "ended_at": ended});
    let ended = now().saturating_sub(60);
    let known = [life("live", None), life("succeeded", Some(ended)), life("failed", Some(ended))];
    let found = select(harness, "io.list", &json!({"expired": known}))?;
    let mut runs: Vec<&str> =
        found.as_array().into_iter().flatten().filter_map(|one| one["run_id"].as_str()).collect();
    runs.sort_unstable();
    // The backend decides how long the values of a failed run are kept for a retry.
    runs.retain(|run| *run != "failed");
    expect(runs == ["succeeded"], "succeeded", || runs.join(", "))?;
    select(harness, "io.delete", &json!({"expired": known}))?;
    loaded(harness, &output("forgotten", "step", "result", None))?;
    loaded(harness, &output("live", "step", "result", None))?;
    loaded(harness, &asset(RUN, &["a"], None))?;
    Ok(())
}

fn texts(harness: &Harness) -> Verdict {
    begin(harness);
    hostile::texts(harness, "io.load", |text| {
        let address = json!({
            "asset": [text, text], "partition": text, "run_id": text, "step_key": text, "output_name": text,
            "mapping_key": text,
        });
        json!({"address": address, "context": context(harness)})
    })?;
    hostile::texts(
        harness,
        "io.list",
        |text| json!({"selection": {"runs": [text]}, "context": context(harness)}),
    )?;
    hostile::texts(
        harness,
        "io.delete",
        |text| json!({"selection": {"keys": [text]}, "context": context(harness)}),
    )
}

fn random_content(harness: &Harness) -> Verdict {
    begin(harness);
    hostile::random_content(
        harness,
        "io.load",
        |any| json!({"address": output(&any.text, &any.text, &any.text, Some(&any.text)), "context": specs::io_context(&any.options)}),
    )?;
    hostile::random_content(
        harness,
        "io.list",
        |any| json!({"selection": {"asset": [any.text]}, "context": specs::io_context(&any.options)}),
    )
}
