use std::cell::RefCell;
use std::collections::BTreeMap;

use dagster_ray_sdk::bindings::objects::ValueInfo;

use super::*;
use dagster_ray_sdk::bindings::model::{RunLife, RunState};

/// A time long after the values were stored, in seconds since the Unix epoch.
const NOW: u64 = 10_000_000;

#[derive(Default)]
struct Memory(RefCell<BTreeMap<String, (Entry, u32)>>);

impl ValueStore<u32> for &Memory {
    fn put(
        &self,
        key: &str,
        value: &u32,
        overwrite: bool,
        keep_until: Option<u64>,
        attributes: &[(String, String)],
    ) -> Result<Entry, Error> {
        if !overwrite && self.0.borrow().contains_key(key) {
            return Err(Error::Conflict(key.to_owned()));
        }
        let entry = Entry {
            key: key.to_owned(),
            info: ValueInfo { type_name: "u32".into(), size: Some(4) },
            stored_at: 100,
            keep_until,
            node: None,
            attributes: attributes.to_vec(),
        };
        self.0.borrow_mut().insert(key.to_owned(), (entry.clone(), *value));
        Ok(entry)
    }

    fn get(&self, key: &str) -> Result<u32, Error> {
        self.0.borrow().get(key).map(|(_, value)| *value).ok_or_else(|| Error::NotFound(String::new()))
    }

    fn stat(&self, keys: &[String]) -> Result<Vec<Option<Entry>>, Error> {
        Ok(keys.iter().map(|key| self.0.borrow().get(key).map(|(entry, _)| entry.clone())).collect())
    }

    fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error> {
        let all = self.0.borrow();
        Ok(all
            .values()
            .filter(|(entry, _)| entry.key.starts_with(prefix))
            .map(|(entry, _)| entry.clone())
            .collect())
    }

    fn delete(&self, keys: &[String]) -> Result<u32, Error> {
        let mut all = self.0.borrow_mut();
        Ok(keys.iter().filter(|key| all.remove(*key).is_some()).count() as u32)
    }
}

fn partition(asset: &str, name: &str) -> Address {
    Address {
        asset: Some(vec!["prices".into(), asset.into()]),
        partition: Some(name.into()),
        run_id: "run-1".into(),
        step_key: "prices".into(),
        output_name: "result".into(),
        mapping_key: None,
    }
}

fn output(run: &str, step: &str) -> Address {
    Address { asset: None, partition: None, run_id: run.into(), step_key: step.into(), ..partition("", "") }
}

fn values<'a>(memory: &'a Memory, options: &str) -> Values<&'a Memory, u32> {
    values_of(memory, "production", options)
}

fn values_of<'a>(memory: &'a Memory, deployment: &str, options: &str) -> Values<&'a Memory, u32> {
    let context = IoContext { deployment: deployment.into(), options: options.into() };
    Values::new(memory, &context, NOW).unwrap()
}

#[test]
fn errors_for_missing_values_list_the_stored_ones() {
    let memory = Memory::default();
    let all = values(&memory, "");
    for day in ["mon", "tue"] {
        all.save(&partition("eur", day), &1).unwrap();
    }
    all.save(&partition("usd", "wed"), &1).unwrap();
    let text = all.load(&partition("eur", "wed")).unwrap_err().message();
    assert!(text.contains("asset prices/eur, partition wed"), "{text}");
    assert!(
        text.contains("asset/prices/eur/=wed") && text.contains("has these values of this asset: mon, tue"),
        "{text}"
    );

    let text = all.load(&output("run-7", "sum")).unwrap_err().message();
    assert!(text.contains("output result of step sum in run run-7") && text.contains("no value of this run"));
}

#[test]
fn load_many_returns_values_by_partition_and_names_all_missing_partitions() {
    let memory = Memory::default();
    let all = values(&memory, "");
    all.save(&partition("eur", "mon"), &1).unwrap();
    all.save(&partition("eur", "tue"), &2).unwrap();
    let week = ["mon", "tue", "wed", "thu"].map(|day| partition("eur", day));
    assert_eq!(all.load_many(&week[..2]).unwrap(), [("mon".to_owned(), 1), ("tue".to_owned(), 2)]);
    let text = all.load_many(&week).unwrap_err().message();
    assert!(text.contains("partition wed") && text.contains("partition thu"), "{text}");
    let lenient = values(&memory, r#"{"allow_missing_partitions": true}"#);
    assert_eq!(lenient.load_many(&week).unwrap().len(), 2);
}

#[test]
fn deleting_expired_values_removes_those_of_ended_runs_and_keeps_assets() {
    let memory = Memory::default();
    let all = values(&memory, "");
    for run in ["live", "done", "gone"] {
        all.save(&output(run, "step"), &1).unwrap();
    }
    all.save(&partition("eur", "mon"), &1).unwrap();
    let known = vec![
        RunLife { run_id: "live".into(), state: RunState::Live, ended_at: None },
        RunLife { run_id: "done".into(), state: RunState::Succeeded, ended_at: Some(NOW - 10) },
    ];
    assert_eq!(all.delete(Selection::Expired(known)).unwrap(), 2);
    let left: Vec<_> =
        all.list(Selection::Runs(vec![])).unwrap().into_iter().filter_map(|one| one.run_id).collect();
    assert_eq!(left, ["live"]);
    assert_eq!(all.load(&partition("eur", "mon")).unwrap(), 1);
}

#[test]
fn every_value_has_an_expiry_time_unless_an_option_disables_it() {
    let memory = Memory::default();
    let expires_at = |options: &str, address: &Address| {
        values(&memory, options).save(address, &1).unwrap();
        memory.0.borrow()[&Keys::new("production").output(address)].0.keep_until
    };
    assert_eq!(expires_at("", &output("r", "s")), Some(NOW + 7 * 24 * 3600));
    assert_eq!(expires_at(r#"{"asset_value_seconds": 60}"#, &partition("eur", "mon")), Some(NOW + 60));
    assert_eq!(expires_at(r#"{"asset_value_seconds": null}"#, &partition("eur", "mon")), None);
}

#[test]
fn a_deployment_neither_finds_nor_removes_values_of_another() {
    let memory = Memory::default();
    let (production, branch) = (values(&memory, ""), values_of(&memory, "branch", ""));
    production.save(&partition("eur", "mon"), &1).unwrap();
    production.save(&output("run-1", "step"), &2).unwrap();

    assert!(matches!(branch.load(&partition("eur", "mon")), Err(Error::NotFound(_))));
    branch.save(&partition("eur", "mon"), &3).unwrap();
    assert_eq!(production.load(&partition("eur", "mon")).unwrap(), 1);

    for selection in
        [Selection::Expired(vec![]), Selection::Runs(vec![]), Selection::Runs(vec!["run-1".into()])]
    {
        assert_eq!(branch.delete(selection).unwrap(), 0);
    }
    let key = production.list(Selection::Runs(vec![])).unwrap().remove(0).key;
    assert!(matches!(branch.delete(Selection::Keys(vec![key.clone()])), Err(Error::Conflict(_))));
    assert!(matches!(branch.list(Selection::Keys(vec![key])), Err(Error::Conflict(_))));
    assert_eq!(production.load(&output("run-1", "step")).unwrap(), 2);
}
