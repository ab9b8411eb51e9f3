//! Rules of `cluster`.

use dagster_ray_runtime::capability::http::Fate;
use dagster_ray_runtime::model::Error;
use http::StatusCode;
use serde_json::{Map, Value as Json, json};

use super::Needs::{Nothing, Service};
use super::{Rule, eventually, expect_no_leak, expect_unavailable, hostile, options};
use crate::bench::{Bench, Called, describe};
use crate::network::Weather;
use crate::outcome::{Verdict, differs, expect, not_applicable};
use crate::schema::with;
use crate::specs;

const CLUSTER: &str = "cluster";
const RUN: &str = "8c1f7a52-0000-4000-8000-000000000007";

pub(super) const RULES: [Rule; 13] = [
    Rule {
        interface: CLUSTER,
        name: "an option that it does not know is refused by its name, before anything is asked",
        reason: "a misspelt key would be passed over, and the cluster be made without it",
        needs: Nothing,
        run: |bench| options::unknown_key(bench, CLUSTER, |options| create(bench, RUN, "one", options)),
    },
    Rule {
        interface: CLUSTER,
        name: "an option of the wrong type is refused by its name, before anything is asked",
        reason: "a cluster costs money",
        needs: Nothing,
        run: |bench| options::wrong_values(bench, CLUSTER, |options| create(bench, RUN, "one", options)),
    },
    Rule {
        interface: CLUSTER,
        name: "a service that answers 500 makes no cluster absent",
        reason: "what is taken for absent is made a second time",
        needs: Nothing,
        run: |bench| away(bench, Fate::Answer(StatusCode::INTERNAL_SERVER_ERROR, "out of order".into())),
    },
    Rule {
        interface: CLUSTER,
        name: "a connection that breaks makes no cluster absent",
        reason: "what is taken for absent is made a second time",
        needs: Nothing,
        run: |bench| away(bench, Fate::Reset),
    },
    Rule {
        interface: CLUSTER,
        name: "no text in a cluster makes it trap",
        reason: "labels and names come from users' code locations",
        needs: Nothing,
        run: texts,
    },
    Rule {
        interface: CLUSTER,
        name: "no options and no reference make it trap",
        reason: "a trap is a defect, and tells a user nothing",
        needs: Nothing,
        run: anything,
    },
    Rule {
        interface: CLUSTER,
        name: "a repeated creation for the same owner finds the same cluster, also when an answer is lost",
        reason: "a cluster that nobody knows of is never removed",
        needs: Service,
        run: repeated,
    },
    Rule {
        interface: CLUSTER,
        name: "a cluster is found by its labels, and looked at",
        reason: "cleaning up begins with what is there",
        needs: Service,
        run: listed,
    },
    Rule {
        interface: CLUSTER,
        name: "waiting that is over too early says so, and leaves the cluster",
        reason: "the caller decides whether the cluster goes or stays",
        needs: Service,
        run: impatient,
    },
    Rule {
        interface: CLUSTER,
        name: "a cluster becomes ready, and says where it is reached",
        reason: "the step connects there next",
        needs: Service,
        run: ready,
    },
    Rule {
        interface: CLUSTER,
        name: "a shared cluster is joined, held, and removed with its last holder",
        reason: "one user's end must not end the work of another",
        needs: Service,
        run: shared,
    },
    Rule {
        interface: CLUSTER,
        name: "what belongs to runs that are over is expired, and what belongs to live ones is not",
        reason: "clusters of crashed processes cost money until somebody removes them",
        needs: Service,
        run: expired,
    },
    Rule {
        interface: CLUSTER,
        name: "a cluster is deleted once, and then was not there, and no error holds its environment",
        reason: "whoever cleans up may be second",
        needs: Service,
        run: deleted,
    },
];

fn create(bench: &Bench, run_id: &str, holder: &str, options: &Map<String, Json>) -> Called {
    bench.call("cluster.create", &json!({"spec": specs::cluster(run_id, holder, options)}))
}

/// The cluster of a creation, and whether it was joined.
fn of(answer: &Json) -> Verdict<(Json, bool)> {
    match (answer.get("created"), answer.get("joined")) {
        (Some(cluster), _) => Ok((cluster.clone(), false)),
        (None, Some(cluster)) => Ok((cluster.clone(), true)),
        _ => Err(differs("created or joined", answer.to_string())),
    }
}

fn made(bench: &Bench, run_id: &str, holder: &str, options: &Map<String, Json>) -> Verdict<(Json, bool)> {
    let cluster = of(&create(bench, run_id, holder, options).answer()?)?;
    bench.leave("cluster.delete", json!({"cluster": cluster.0}));
    Ok(cluster)
}

fn name(cluster: &Json) -> String {
    cluster["name"].as_str().unwrap_or_default().to_owned()
}

/// A name that is not there. The rest of a reference is the component's own matter.
fn nobody() -> Json {
    json!({"name": "nobody", "namespace": null, "uid": null, "details": null})
}

fn away(bench: &Bench, fate: Fate) -> Verdict {
    bench.offline(fate);
    let called = bench.call("cluster.get", &json!({"cluster": nobody()}));
    if bench.seen().is_empty() {
        return Err(not_applicable("it sends no request for a cluster"));
    }
    expect_unavailable(&called, "a cluster that cannot be looked at")?;
    let query = json!({"namespace": null, "labels": [["conformance", "x"]], "kind": null});
    expect_unavailable(
        &bench.call("cluster.list", &json!({"query": query})),
        "clusters that cannot be listed",
    )
}

fn texts(bench: &Bench) -> Verdict {
    hostile::texts(bench, "cluster.create", |text| {
        let mut spec = specs::cluster(text, text, &bench.options(CLUSTER));
        spec["name"] = text.into();
        spec["image"] = text.into();
        spec["labels"] = json!([[text, text]]);
        spec["env"] = json!([[text, text]]);
        json!({"spec": spec})
    })?;
    hostile::texts(
        bench,
        "cluster.get",
        |text| json!({"cluster": {"name": text, "namespace": text, "uid": text, "details": text}}),
    )
}

fn anything(bench: &Bench) -> Verdict {
    hostile::anything(bench, "cluster.create", |any| {
        let mut spec = specs::cluster(&any.text, &any.text, &Map::new());
        spec["options"] = any.options.clone().into();
        json!({"spec": spec})
    })?;
    let cluster = |any: &hostile::Anything| json!({"name": any.text, "namespace": any.text, "uid": null, "details": any.details});
    for export in ["cluster.get", "cluster.delete", "cluster.endpoints"] {
        hostile::anything(bench, export, |any| json!({"cluster": cluster(any)}))?;
    }
    hostile::anything(bench, "cluster.update", |any| json!({"cluster": cluster(any), "patch": any.options}))?;
    hostile::anything(bench, "cluster.release", |any| json!({"cluster": cluster(any), "holder": any.text}))
}

/// The cluster that several rules look at.
fn one(bench: &Bench) -> Verdict<(String, Json)> {
    let make = || {
        let run_id = specs::run_id();
        let (cluster, _) = made(bench, &run_id, "one", &bench.options(CLUSTER))?;
        Ok((run_id, cluster))
    };
    bench.live.cluster.get_or_init(make).clone()
}

fn repeated(bench: &Bench) -> Verdict {
    let (run_id, cluster) = one(bench)?;
    let (again, _) = made(bench, &run_id, "one", &bench.options(CLUSTER))?;
    expect(name(&again) == name(&cluster), &name(&cluster), || name(&again))?;

    let run_id = specs::run_id();
    bench.weather(Weather::LostAnswer);
    let first = create(bench, &run_id, "lost", &bench.options(CLUSTER));
    let (again, _) = made(bench, &run_id, "lost", &bench.options(CLUSTER))?;
    if let Ok(answer) = first.answer() {
        let (first, _) = of(&answer)?;
        expect(name(&first) == name(&again), &name(&first), || name(&again))?;
    }
    let found = listing(bench, &run_id)?;
    expect(found.len() == 1, "one cluster", || format!("{} clusters", found.len()))?;
    bench.call("cluster.delete", &json!({"cluster": again})).answer()?;
    Ok(())
}

fn listing(bench: &Bench, run_id: &str) -> Verdict<Vec<Json>> {
    let query = json!({"namespace": null, "labels": [["conformance", run_id]], "kind": null});
    let found = bench.call("cluster.list", &json!({"query": query})).answer()?;
    Ok(found.as_array().cloned().unwrap_or_default())
}

fn listed(bench: &Bench) -> Verdict {
    let (run_id, cluster) = one(bench)?;
    let found = listing(bench, &run_id)?;
    let names: Vec<_> = found.iter().map(|one| name(&one["cluster"])).collect();
    expect(names == [name(&cluster)], &name(&cluster), || names.join(", "))?;
    let looked = bench.call("cluster.get", &json!({"cluster": cluster})).answer()?;
    expect(name(&looked["cluster"]) == name(&cluster), &name(&cluster), || looked.to_string())?;
    let none = listing(bench, &specs::run_id())?;
    expect(none.is_empty(), "none of other labels", || format!("{} clusters", none.len()))
}

fn impatient(bench: &Bench) -> Verdict {
    let run_id = specs::run_id();
    let (cluster, _) = made(bench, &run_id, "impatient", &bench.options(CLUSTER))?;
    let called = bench.call("cluster.wait", &json!({"cluster": cluster, "timeout_ms": 1}));
    let found = bench.call("cluster.get", &json!({"cluster": cluster})).answer();
    bench.call("cluster.delete", &json!({"cluster": cluster})).answer()?;
    if called.result.is_ok() {
        return Err(not_applicable("its clusters are ready at once"));
    }
    match called.error("`timeout` or `backend`")? {
        Error::Timeout(_) | Error::Backend(_) => found.map(drop),
        other => Err(differs("`timeout` or `backend`", describe(&other))),
    }
}

fn ready(bench: &Bench) -> Verdict {
    let (_, cluster) = one(bench)?;
    let waited = bench.call("cluster.wait", &json!({"cluster": cluster, "timeout_ms": 240_000})).answer()?;
    let url = waited["dashboard_url"].as_str().unwrap_or_default();
    expect(url.starts_with("http"), "the URL of a dashboard", || waited.to_string())?;
    let endpoints = bench.call("cluster.endpoints", &json!({"cluster": cluster})).answer()?;
    expect(endpoints == waited, &waited.to_string(), || endpoints.to_string())?;
    let info = bench.call("cluster.get", &json!({"cluster": cluster})).answer()?;
    expect(info["state"] == "ready", "ready", || info["state"].to_string())
}

fn shared(bench: &Bench) -> Verdict {
    let run_id = specs::run_id();
    let schema = bench.schema(CLUSTER).ok_or_else(|| not_applicable("it publishes no schema"))?;
    if !schema.has("sharing") {
        return Err(not_applicable("its clusters are not shared"));
    }
    let sharing = json!({"match_labels": {"conformance": run_id}});
    let options = with(&bench.options(CLUSTER), "sharing", &sharing);
    let (first, _) = made(bench, &run_id, "first", &options)?;
    let (second, joined) = eventually("a second holder joins", || {
        let (second, joined) = made(bench, &specs::run_id(), "second", &options)?;
        Ok(if joined { Ok((second, joined)) } else { Err(name(&second)) })
    })?;
    expect(joined && name(&second) == name(&first), &name(&first), || name(&second))?;
    let hold = |holder: &str| json!({"cluster": first, "holder": holder});
    bench.call("cluster.renew", &hold("second")).answer()?;
    let info = bench.call("cluster.get", &json!({"cluster": first})).answer()?;
    let mut holders: Vec<&str> =
        info["holders"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    holders.sort_unstable();
    expect(holders == ["first", "second"], "first, second", || holders.join(", "))?;
    let removed = bench.call("cluster.release", &hold("first")).answer()?;
    expect(removed == false, "that it stays for the other", || removed.to_string())?;
    let removed = bench.call("cluster.release", &hold("second")).answer()?;
    expect(removed == true, "that it goes with the last one", || removed.to_string())
}

fn expired(bench: &Bench) -> Verdict {
    let (run_id, cluster) = one(bench)?;
    let found = |live: &[&str], older: u64| {
        let query = json!({"namespace": null, "labels": [["conformance", run_id]], "kind": null});
        let rule = json!({"query": query, "live_runs": live, "older_than_s": older});
        let found = bench.call("cluster.expired", &json!({"rule": rule})).answer()?;
        Ok(found.as_array().into_iter().flatten().map(|one| name(&one["cluster"])).collect::<Vec<_>>())
    };
    let live = found(&[&run_id], 0)?;
    expect(live.is_empty(), "none of a live run", || live.join(", "))?;
    let young = found(&[], 3_600)?;
    expect(young.is_empty(), "none that is younger than the rule says", || young.join(", "))?;
    std::thread::sleep(std::time::Duration::from_secs(2));
    let over = found(&[], 1)?;
    expect(over == [name(&cluster)], &name(&cluster), || over.join(", "))
}

fn deleted(bench: &Bench) -> Verdict {
    let (_, cluster) = one(bench)?;
    let delete = |cluster: &Json| bench.call("cluster.delete", &json!({"cluster": cluster})).answer();
    let first = delete(&cluster)?;
    expect(first == true, "that it was there", || first.to_string())?;
    eventually("a second deletion finds nothing", || {
        let again = delete(&cluster)?;
        Ok(if again == false { Ok(()) } else { Err(again.to_string()) })
    })?;
    match bench.call("cluster.get", &json!({"cluster": cluster})).error("`not-found`")? {
        Error::NotFound(_) => expect_no_leak(bench, CLUSTER),
        other => Err(differs("`not-found`", describe(&other))),
    }
}
