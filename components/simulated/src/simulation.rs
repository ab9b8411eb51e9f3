//! What the parts of a simulation share: the bucket, the machine, the faults, and the clock.

use std::{cell::Cell, rc::Rc};

use dagster_ray_sdk::{Error, clock::Clock, warn};
use serde_json::Value;

use crate::{
    faults::{About, Fault},
    jobs::{self, Record},
    keys::Keys,
    machine::Machine,
};

/// The key under which the waits that were skipped are added up, in milliseconds.
pub const CLOCK: &str = "clock";
/// How long a wait for something that really goes on lasts at most: the processes of a test are
/// quick, and a second until their end is noticed is a second wasted.
const GLANCE_MS: u64 = 50;

struct Inner<K, M> {
    keys: K,
    machine: M,
    faults: Vec<Fault>,
    /// Whether the caller was told, since its last wait, of something that really goes on.
    goes_on: Cell<bool>,
}

/// A simulation, as one call sees it. Clones are the same one.
pub struct Simulation<K, M>(Rc<Inner<K, M>>);

impl<K, M> Clone for Simulation<K, M> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<K: Keys, M: Machine> Simulation<K, M> {
    /// A simulation with these faults.
    pub fn new(keys: K, machine: M, faults: Vec<Fault>) -> Self {
        Self(Rc::new(Inner { keys, machine, faults, goes_on: Cell::new(false) }))
    }

    /// What outlives the call.
    #[must_use]
    pub fn keys(&self) -> &K {
        &self.0.keys
    }

    /// Where jobs run.
    #[must_use]
    pub fn machine(&self) -> &M {
        &self.0.machine
    }

    /// Says that the caller is about to hear of something that really goes on: its next wait is one.
    pub fn goes_on(&self) {
        self.0.goes_on.set(true);
    }

    /// The faults, each with its place in the script.
    pub fn faults(&self) -> impl Iterator<Item = (usize, &Fault)> {
        self.0.faults.iter().enumerate()
    }

    /// Whether a fault strikes now. It is counted where it does.
    ///
    /// # Errors
    /// Where the bucket cannot be written.
    pub fn strikes(&self, place: usize, fault: &Fault) -> Result<bool, Error> {
        let used = format!("fault/{place}/used");
        if self.0.keys.number(&used)? >= fault.times() {
            return Ok(false);
        }
        Ok(self.0.keys.add(&used, 1)? <= fault.times())
    }

    /// The first of the faults that a test picks out which strikes this submission.
    ///
    /// # Errors
    /// Where the bucket cannot be written.
    pub fn struck(&self, submission: &Value, kind: impl Fn(&Fault) -> bool) -> Result<bool, Error> {
        for (place, fault) in self.faults() {
            if kind(fault) && concerns(fault.about(), submission) && self.strikes(place, fault)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether Ray's dashboard is away just now.
    ///
    /// # Errors
    /// Where the bucket cannot be read or written.
    pub fn is_away(&self) -> Result<bool, Error> {
        let mut away = false;
        for (place, fault) in self.faults() {
            let Fault::Unavailable { seconds, step } = fault else { continue };
            let key = format!("fault/{place}/until");
            if self.0.keys.get(&key)?.is_none() {
                if step.is_some() && !self.runs(fault.about())? {
                    continue;
                }
                let until = self.now_ms().saturating_add((seconds.max(0.0) * 1_000.0) as u64);
                self.0.keys.set(&key, until.to_string().as_bytes())?;
            }
            away |= self.now_ms() < self.0.keys.number(&key)?;
        }
        Ok(away)
    }

    /// Whether a job runs that this is about.
    ///
    /// # Errors
    /// Where the bucket or the machine cannot be read.
    pub fn runs(&self, about: About<'_>) -> Result<bool, Error> {
        for (id, record) in self.records()? {
            if record.runs()
                && concerns(about, &record.submission)
                && self.0.machine.exit_code(&id)?.is_none()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Every job, by its submission id.
    ///
    /// # Errors
    /// Where the bucket cannot be read.
    pub fn records(&self) -> Result<Vec<(String, Record)>, Error> {
        let mut found = Vec::new();
        for key in self.0.keys.below(Record::BELOW)? {
            let id = key.strip_prefix(Record::BELOW).unwrap_or(&key).to_owned();
            if let Some(record) = Record::read(&self.0.keys, &id)? {
                found.push((id, record));
            }
        }
        Ok(found)
    }
}

/// Waiting for what really goes on takes time, if little. Any other wait is skipped: the clock is
/// put forward for everybody.
impl<K: Keys, M: Machine> Clock for Simulation<K, M> {
    fn now_ms(&self) -> u64 {
        self.0.machine.now_ms().saturating_add(self.0.keys.number(CLOCK).unwrap_or_default())
    }

    fn sleep_ms(&self, ms: u64) {
        if self.0.goes_on.replace(false) {
            self.0.machine.pause(ms.min(GLANCE_MS));
        } else if let Err(error) = self.0.keys.add(CLOCK, ms) {
            warn!("the simulation's clock stands still: {}", error.text());
            self.0.machine.pause(ms);
        }
    }
}

/// Whether a submission is one of those that a fault is about.
#[must_use]
pub fn concerns(about: About<'_>, submission: &Value) -> bool {
    use dagster_ray_submission::metadata::{JOB, STEP};

    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &submission["metadata"];
    let (step, id) = (metadata[STEP].as_str(), text(&submission["submission_id"]));
    let is_run = step.is_none() && id.starts_with("dagster-run-");
    if jobs::is_withdrawal(&id) {
        return false;
    }
    if about.step.is_none() && about.run.is_none() && about.script.is_none() {
        return true;
    }
    let of_op =
        |key: &str, wanted: &str| key == wanted || key.split_once('[').is_some_and(|(op, _)| op == wanted);
    about.step.is_some_and(|wanted| step.is_some_and(|key| of_op(key, wanted)))
        || about.run.is_some_and(|wanted| is_run && metadata[JOB].as_str() == Some(wanted))
        || about.script.is_some_and(|wanted| {
            step.is_none() && !is_run && text(&submission["entrypoint"]).contains(wanted)
        })
}
