//! Rules of `cluster`.

use dagster_ray_recording::InjectedFault;
use dagster_ray_runtime::model::Error;
use http::StatusCode;
use serde_json::{Map, Value as Json, json};

use super::Needs::{Nothing, Service};
use super::{Rule, eventually, expect_deployment, expect_no_leak, expect_unavailable, hostile, options};
use crate::harness::{CallResult, Harness, describe_error};
use crate::network::NetworkCondition;
use crate::outcome::{Outcome, Verdict, differs, expect, not_applicable};
use crate::schema::with;
use crate::specs;

const CLUSTER: &str = "cluster";
const RUN: &str = "8c1f7a52-0000-4000-8000-000000000007";

pub(super) const RULES: [Rule; 14] = [
    Rule {
        interface: CLUSTER,
        name: "an unknown option is rejected by name before any request is sent",
        reason: "a misspelled key would be ignored and the cluster created without it",
        needs: Nothing,
        run: |harness| options::unknown_key(harness, CLUSTER, |options| create(harness, RUN, "one", options)),
    },
    Rule {
        interface: CLUSTER,
        name: "an option of the wrong type is rejected by name before any request is sent",
        reason: "a cluster with wrong options costs money",
        needs: Nothing,
        run: |harness| {
            options::wrong_values(harness, CLUSTER, |options| create(harness, RUN, "one", options))
        },
    },
    Rule {
        interface: CLUSTER,
        name: "a created cluster carries the id of its Dagster deployment",
        reason: "several deployments share one namespace, and none may delete what belongs to another",
        needs: Nothing,
        run: deployment,
    },
    Rule {
        interface: CLUSTER,
        name: "a 500 response is not reported as a missing cluster",
        reason: "a cluster that is reported missing is created again",
        needs: Nothing,
        run: |harness| {
            away(harness, InjectedFault::Respond(StatusCode::INTERNAL_SERVER_ERROR, "out of order".into()))
        },
    },
    Rule {
        interface: CLUSTER,
        name: "a broken connection is not reported as a missing cluster",
        reason: "a cluster that is reported missing is created again",
        needs: Nothing,
        run: |harness| away(harness, InjectedFault::Reset),
    },
    Rule {
        interface: CLUSTER,
        name: "no text in a cluster spec causes a trap",
        reason: "labels and names come from users' code locations",
        needs: Nothing,
        run: texts,
    },
    Rule {
        interface: CLUSTER,
        name: "no content of options or references causes a trap",
        reason: "a trap is a defect and explains nothing to the user",
        needs: Nothing,
        run: random_content,
    },
    Rule {
        interface: CLUSTER,
        name: "creating a cluster twice for one owner gives one cluster, even after a lost response",
        reason: "a cluster without a reference is never deleted",
        needs: Service,
        run: repeated,
    },
    Rule {
        interface: CLUSTER,
        name: "a cluster is listed by its labels and can be read",
        reason: "clean-up starts from the list of clusters",
        needs: Service,
        run: listed,
    },
    Rule {
        interface: CLUSTER,
        name: "a wait that times out reports it and keeps the cluster",
        reason: "the caller decides whether to delete the cluster",
        needs: Service,
        run: impatient,
    },
    Rule {
        interface: CLUSTER,
        name: "a cluster becomes ready and returns its endpoints",
        reason: "the step connects to the endpoints next",
        needs: Service,
        run: ready,
    },
    Rule {
        interface: CLUSTER,
        name: "a shared cluster is joined within its deployment and deleted with its last holder",
        reason: "the end of one holder must not stop the work of another",
        needs: Service,
        run: shared,
    },
    Rule {
        interface: CLUSTER,
        name: "clusters of ended runs expire, and those of live runs and of other deployments do not",
        reason: "clusters left by crashed processes cost money until they are deleted",
        needs: Service,
        run: expired,
    },
    Rule {
        interface: CLUSTER,
        name: "a cluster is deleted once, a second deletion finds none, and no error shows its environment",
        reason: "two processes may clean up the same cluster",
        needs: Service,
        run: deleted,
    },
];

fn create(harness: &Harness, run_id: &str, holder: &str, options: &Map<String, Json>) -> CallResult {
    harness.call("cluster.create", &json!({"spec": specs::cluster(run_id, holder, options)}))
}

fn deployment(harness: &Harness) -> Verdict {
    expect_deployment(harness, || {
        // A component that needs no request creates the cluster.
        let made = create(harness, RUN, "deployment", &harness.options(CLUSTER)).answer();
        if let Ok((cluster, _)) = made.and_then(|answer| creation(&answer)) {
            harness.on_cleanup("cluster.delete", json!({"cluster": cluster}));
        }
    })
}

/// Returns the cluster reference in the answer of `create`, and whether the cluster was joined.
fn creation(answer: &Json) -> Verdict<(Json, bool)> {
    match (answer.get("created"), answer.get("joined")) {
        (Some(cluster), _) => Ok((cluster.clone(), false)),
        (None, Some(cluster)) => Ok((cluster.clone(), true)),
        _ => Err(differs("created or joined", answer.to_string())),
    }
}

fn created(
    harness: &Harness,
    run_id: &str,
    holder: &str,
    options: &Map<String, Json>,
) -> Verdict<(Json, bool)> {
    let cluster = creation(&create(harness, run_id, holder, options).answer()?)?;
    harness.on_cleanup("cluster.delete", json!({"cluster": cluster.0}));
    Ok(cluster)
}

fn name(cluster: &Json) -> String {
    cluster["name"].as_str().unwrap_or_default().to_owned()
}

/// Returns a reference to a cluster that does not exist.
fn unknown() -> Json {
    json!({"name": "no-such-cluster", "namespace": null, "uid": null, "details": null})
}

fn away(harness: &Harness, fault: InjectedFault) -> Verdict {
    harness.offline(fault);
    let called = harness.call("cluster.get", &json!({"cluster": unknown()}));
    if harness.requests().is_empty() {
        return Err(not_applicable("it sends no request for a cluster"));
    }
    expect_unavailable(&called, "a cluster that cannot be read")?;
    let query = json!({"namespace": null, "labels": [["conformance", "x"]], "kind": null});
    expect_unavailable(
        &harness.call("cluster.list", &json!({"query": query})),
        "clusters that cannot be listed",
    )
}

fn texts(harness: &Harness) -> Verdict {
    hostile::texts(harness, "cluster.create", |text| {
        let mut spec = specs::cluster(text, text, &harness.options(CLUSTER));
        spec["name"] = text.into();
        spec["image"] = text.into();
        spec["labels"] = json!([[text, text]]);
        spec["env"] = json!([[text, text]]);
        json!({"spec": spec})
    })?;
    hostile::texts(
        harness,
        "cluster.get",
        |text| json!({"cluster": {"name": text, "namespace": text, "uid": text, "details": text}}),
    )
}

fn random_content(harness: &Harness) -> Verdict {
    hostile::random_content(harness, "cluster.create", |any| {
        let mut spec = specs::cluster(&any.text, &any.text, &Map::new());
        spec["options"] = any.options.clone().into();
        json!({"spec": spec})
    })?;
    let cluster = |any: &hostile::RandomContent| json!({"name": any.text, "namespace": any.text, "uid": null, "details": any.details});
    for export in ["cluster.get", "cluster.delete", "cluster.endpoints"] {
        hostile::random_content(harness, export, |any| json!({"cluster": cluster(any)}))?;
    }
    hostile::random_content(
        harness,
        "cluster.update",
        |any| json!({"cluster": cluster(any), "patch": any.options}),
    )?;
    hostile::random_content(
        harness,
        "cluster.release",
        |any| json!({"cluster": cluster(any), "holder": any.text}),
    )
}

/// Returns the cluster that several rules share, with the id of its run.
fn shared_by_rules(harness: &Harness) -> Verdict<(String, Json)> {
    let make = || {
        let run_id = specs::run_id();
        let (cluster, _) = created(harness, &run_id, "one", &harness.options(CLUSTER))?;
        Ok((run_id, cluster))
    };
    harness.shared.cluster.get_or_init(make).clone()
}

fn repeated(harness: &Harness) -> Verdict {
    let (run_id, cluster) = shared_by_rules(harness)?;
    let (again, _) = created(harness, &run_id, "one", &harness.options(CLUSTER))?;
    expect(name(&again) == name(&cluster), &name(&cluster), || name(&again))?;

    let run_id = specs::run_id();
    harness.set_network(NetworkCondition::LoseResponse);
    let first = create(harness, &run_id, "lost", &harness.options(CLUSTER));
    let (again, _) = created(harness, &run_id, "lost", &harness.options(CLUSTER))?;
    if let Ok(answer) = first.answer() {
        let (first, _) = creation(&answer)?;
        expect(name(&first) == name(&again), &name(&first), || name(&again))?;
    }
    let found = listing(harness, &run_id)?;
    expect(found.len() == 1, "one cluster", || format!("{} clusters", found.len()))?;
    harness.call("cluster.delete", &json!({"cluster": again})).answer()?;
    Ok(())
}

fn listing(harness: &Harness, run_id: &str) -> Verdict<Vec<Json>> {
    let query = json!({"namespace": null, "labels": [["conformance", run_id]], "kind": null});
    let found = harness.call("cluster.list", &json!({"query": query})).answer()?;
    Ok(found.as_array().cloned().unwrap_or_default())
}

fn listed(harness: &Harness) -> Verdict {
    let (run_id, cluster) = shared_by_rules(harness)?;
    let found = listing(harness, &run_id)?;
    let names: Vec<_> = found.iter().map(|one| name(&one["cluster"])).collect();
    expect(names == [name(&cluster)], &name(&cluster), || names.join(", "))?;
    let info = harness.call("cluster.get", &json!({"cluster": cluster})).answer()?;
    expect(name(&info["cluster"]) == name(&cluster), &name(&cluster), || info.to_string())?;
    let none = listing(harness, &specs::run_id())?;
    expect(none.is_empty(), "no cluster with other labels", || format!("{} clusters", none.len()))?;
    for (operator, count) in [("=", 1), ("!=", 0)] {
        let selector = format!("conformance{operator}{run_id}");
        let query = json!({"labels": [["conformance", run_id]], "selector": selector});
        let found = match harness.call("cluster.list", &json!({"query": query})).answer() {
            // A component may support none of the syntax, but it must not ignore a selector.
            Err(Outcome::NotApplicable { .. }) => return Ok(()),
            answered => answered?,
        };
        let found = found.as_array().map(Vec::len).unwrap_or_default();
        expect(found == count, &format!("{count} clusters with {selector}"), || format!("{found} clusters"))?;
    }
    Ok(())
}

fn impatient(harness: &Harness) -> Verdict {
    let run_id = specs::run_id();
    let (cluster, _) = created(harness, &run_id, "impatient", &harness.options(CLUSTER))?;
    let called = harness.call("cluster.wait", &json!({"cluster": cluster, "timeout_ms": 1}));
    let found = harness.call("cluster.get", &json!({"cluster": cluster})).answer();
    harness.call("cluster.delete", &json!({"cluster": cluster})).answer()?;
    if called.result.is_ok() {
        return Err(not_applicable("its clusters are ready at once"));
    }
    match called.error("`timeout` or `backend`")? {
        Error::Timeout(_) | Error::Backend(_) => found.map(drop),
        other => Err(differs("`timeout` or `backend`", describe_error(&other))),
    }
}

fn ready(harness: &Harness) -> Verdict {
    let (_, cluster) = shared_by_rules(harness)?;
    let waited =
        harness.call("cluster.wait", &json!({"cluster": cluster, "timeout_ms": 240_000})).answer()?;
    let url = waited["dashboard_url"].as_str().unwrap_or_default();
    expect(url.starts_with("http"), "the URL of a dashboard", || waited.to_string())?;
    let endpoints = harness.call("cluster.endpoints", &json!({"cluster": cluster})).answer()?;
    expect(endpoints == waited, &waited.to_string(), || endpoints.to_string())?;
    let info = harness.call("cluster.get", &json!({"cluster": cluster})).answer()?;
    expect(info["state"] == "ready", "ready", || info["state"].to_string())
}

fn shared(harness: &Harness) -> Verdict {
    let run_id = specs::run_id();
    let schema = harness.schema(CLUSTER).ok_or_else(|| not_applicable("it publishes no schema"))?;
    if !schema.has("sharing") {
        return Err(not_applicable("its clusters cannot be shared"));
    }
    let sharing = json!({"match_labels": {"conformance": run_id}});
    let options = with(&harness.options(CLUSTER), "sharing", &sharing);
    let (first, _) = created(harness, &run_id, "first", &options)?;
    let (second, joined) = eventually("a second holder joins", || {
        let (second, joined) = created(harness, &specs::run_id(), "second", &options)?;
        Ok(if joined { Ok((second, joined)) } else { Err(name(&second)) })
    })?;
    expect(joined && name(&second) == name(&first), &name(&first), || name(&second))?;
    let mut spec = specs::cluster(&specs::run_id(), "third", &options);
    spec["owner"]["deployment"] = "another-deployment".into();
    let (third, joined) = creation(&harness.call("cluster.create", &json!({"spec": spec})).answer()?)?;
    if joined {
        return Err(differs("a new cluster for another deployment", name(&third)));
    }
    harness.call("cluster.delete", &json!({"cluster": third})).answer()?;
    let hold = |holder: &str| json!({"cluster": first, "holder": holder});
    harness.call("cluster.renew", &hold("second")).answer()?;
    let info = harness.call("cluster.get", &json!({"cluster": first})).answer()?;
    let mut holders: Vec<&str> =
        info["holders"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    holders.sort_unstable();
    expect(holders == ["first", "second"], "first, second", || holders.join(", "))?;
    let removed = harness.call("cluster.release", &hold("first")).answer()?;
    expect(removed == false, "`false`, because another holder remains", || removed.to_string())?;
    let removed = harness.call("cluster.release", &hold("second")).answer()?;
    expect(removed == true, "`true` for the last holder", || removed.to_string())
}

fn expired(harness: &Harness) -> Verdict {
    let (run_id, cluster) = shared_by_rules(harness)?;
    let found_of = |deployment: &str, live: &[&str], older: u64| -> Verdict<(Vec<String>, Vec<String>)> {
        let query = json!({"namespace": null, "labels": [["conformance", run_id]], "kind": null});
        let rule = json!({
            "deployment": deployment, "query": query, "live_runs": live, "older_than_s": older,
        });
        let found = harness.call("cluster.expired", &json!({"rule": rule})).answer()?;
        let names = |list: &str| {
            found[list].as_array().into_iter().flatten().map(|one| name(&one["cluster"])).collect()
        };
        Ok((names("expired"), names("not_owned")))
    };
    let found = |live: &[&str], older: u64| found_of(specs::DEPLOYMENT, live, older).map(|(found, _)| found);
    let live = found(&[&run_id], 0)?;
    expect(live.is_empty(), "no cluster of a live run", || live.join(", "))?;
    let young = found(&[], 3_600)?;
    expect(young.is_empty(), "no cluster younger than the rule's minimum age", || young.join(", "))?;
    std::thread::sleep(std::time::Duration::from_secs(2));
    for deployment in ["another-deployment", ""] {
        let (expired, not_owned) = found_of(deployment, &[], 0)?;
        expect(expired.is_empty(), "no cluster of another deployment", || expired.join(", "))?;
        expect(not_owned == [name(&cluster)], &name(&cluster), || not_owned.join(", "))?;
    }
    let over = found(&[], 1)?;
    expect(over == [name(&cluster)], &name(&cluster), || over.join(", "))
}

fn deleted(harness: &Harness) -> Verdict {
    let (_, cluster) = shared_by_rules(harness)?;
    let delete = |cluster: &Json| harness.call("cluster.delete", &json!({"cluster": cluster})).answer();
    let first = delete(&cluster)?;
    expect(first == true, "`true` for a cluster that exists", || first.to_string())?;
    eventually("a second deletion finds nothing", || {
        let again = delete(&cluster)?;
        Ok(if again == false { Ok(()) } else { Err(again.to_string()) })
    })?;
    match harness.call("cluster.get", &json!({"cluster": cluster})).error("`not-found`")? {
        Error::NotFound(_) => expect_no_leak(harness, CLUSTER),
        other => Err(differs("`not-found`", describe_error(&other))),
    }
}
