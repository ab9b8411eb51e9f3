//! The shared state of a simulation: the bucket, the machine, the faults and the clock.

use std::{cell::Cell, rc::Rc};

use dagster_ray_sdk::{Error, clock::Clock, warn};
use serde_json::Value;

use crate::{
    faults::{Fault, FaultSelector},
    job_record::Record,
    keys::KeyValueStore,
    machine::Machine,
};

/// The key of the total of skipped waits, in milliseconds.
pub const CLOCK: &str = "clock";
/// The longest real wait for a process. Test processes are short, so a longer wait would notice their end
/// late.
const MAX_REAL_WAIT_MS: u64 = 50;

struct Inner<K, M> {
    keys: K,
    machine: M,
    faults: Vec<Fault>,
    /// Whether the caller has seen a running process since its last wait.
    saw_running: Cell<bool>,
}

/// The simulation during one call. Clones share their state.
pub struct Simulation<K, M>(Rc<Inner<K, M>>);

impl<K, M> Clone for Simulation<K, M> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<K: KeyValueStore, M: Machine> Simulation<K, M> {
    /// Creates a simulation with these faults.
    pub fn new(keys: K, machine: M, faults: Vec<Fault>) -> Self {
        Self(Rc::new(Inner { keys, machine, faults, saw_running: Cell::new(false) }))
    }

    /// Returns the bucket, which outlives the call.
    #[must_use]
    pub fn keys(&self) -> &K {
        &self.0.keys
    }

    /// Returns the machine that runs the jobs.
    #[must_use]
    pub fn machine(&self) -> &M {
        &self.0.machine
    }

    /// Records that the caller sees a running process, so that its next wait takes real time.
    pub fn mark_running(&self) {
        self.0.saw_running.set(true);
    }

    /// Returns the faults with their indexes.
    pub fn faults(&self) -> impl Iterator<Item = (usize, &Fault)> {
        self.0.faults.iter().enumerate()
    }

    /// Returns whether a fault applies now, and counts its use.
    ///
    /// # Errors
    /// The bucket cannot be written.
    pub fn consume_fault(&self, index: usize, fault: &Fault) -> Result<bool, Error> {
        let used = format!("fault/{index}/used");
        if self.0.keys.number(&used)? >= fault.times() {
            return Ok(false);
        }
        Ok(self.0.keys.add(&used, 1)? <= fault.times())
    }

    /// Returns whether one of the faults that `kind` selects applies to a submission, and counts its use.
    ///
    /// # Errors
    /// The bucket cannot be written.
    pub fn fault_applies(&self, submission: &Value, kind: impl Fn(&Fault) -> bool) -> Result<bool, Error> {
        for (index, fault) in self.faults() {
            if kind(fault) && matches(fault.selector(), submission) && self.consume_fault(index, fault)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns whether an `unavailable` fault makes the dashboard unavailable now.
    ///
    /// # Errors
    /// The bucket cannot be read or written.
    pub fn is_unavailable(&self) -> Result<bool, Error> {
        let mut away = false;
        for (index, fault) in self.faults() {
            let Fault::Unavailable { seconds, step } = fault else { continue };
            let key = format!("fault/{index}/until");
            if self.0.keys.get(&key)?.is_none() {
                if step.is_some() && !self.runs(fault.selector())? {
                    continue;
                }
                let until = self.now_ms().saturating_add((seconds.max(0.0) * 1_000.0) as u64);
                self.0.keys.set(&key, until.to_string().as_bytes())?;
            }
            away |= self.now_ms() < self.0.keys.number(&key)?;
        }
        Ok(away)
    }

    /// Returns whether a matching job is running.
    ///
    /// # Errors
    /// The bucket or the machine cannot be read.
    pub fn runs(&self, selector: FaultSelector<'_>) -> Result<bool, Error> {
        for (_, record) in self.records()? {
            if record.runs()
                && matches(selector, &record.submission)
                && self.0.machine.exit_code(&record.process)?.is_none()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns every job with its submission id.
    ///
    /// # Errors
    /// The bucket cannot be read.
    pub fn records(&self) -> Result<Vec<(String, Record)>, Error> {
        let mut found = Vec::new();
        for key in self.0.keys.keys_with_prefix(Record::PREFIX)? {
            let id = key.strip_prefix(Record::PREFIX).unwrap_or(&key).to_owned();
            if let Some(record) = Record::read(&self.0.keys, &id)? {
                found.push((id, record));
            }
        }
        Ok(found)
    }
}

/// The virtual clock. A wait for a running process takes real time, but not long. Any other wait is skipped:
/// the clock of the whole simulation is advanced instead.
impl<K: KeyValueStore, M: Machine> Clock for Simulation<K, M> {
    fn now_ms(&self) -> u64 {
        self.0.machine.now_ms().saturating_add(self.0.keys.number(CLOCK).unwrap_or_default())
    }

    fn sleep_ms(&self, ms: u64) {
        if self.0.saw_running.replace(false) {
            self.0.machine.pause(ms.min(MAX_REAL_WAIT_MS));
        } else if let Err(error) = self.0.keys.add(CLOCK, ms) {
            warn!("the simulation's clock could not be advanced: {}", error.message());
            self.0.machine.pause(ms);
        }
    }
}

/// Returns whether a submission matches the selector of a fault.
#[must_use]
pub fn matches(selector: FaultSelector<'_>, submission: &Value) -> bool {
    use dagster_ray_submission::{
        ids,
        metadata::{JOB, STEP},
    };

    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &submission["metadata"];
    let id = text(&submission["submission_id"]);
    // A script names the step that runs it.
    let step = metadata[STEP].as_str().filter(|_| ids::is_step(&id));
    let is_run = step.is_none() && id.starts_with(ids::RUN_PREFIX);
    if ids::is_kill_job(&id) {
        return false;
    }
    if selector.step.is_none() && selector.run.is_none() && selector.script.is_none() {
        return true;
    }
    let is_step =
        |key: &str, name: &str| key == name || key.split_once('[').is_some_and(|(op, _)| op == name);
    selector.step.is_some_and(|name| step.is_some_and(|key| is_step(key, name)))
        || selector.run.is_some_and(|job| is_run && metadata[JOB].as_str() == Some(job))
        || selector
            .script
            .is_some_and(|part| step.is_none() && !is_run && text(&submission["entrypoint"]).contains(part))
}
