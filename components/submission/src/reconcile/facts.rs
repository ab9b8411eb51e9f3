//! Decides whether an object has outlived its owner, by Dagster's own record.
//!
//! An age alone does not make an object a leftover. It only matters for the object of a run that Dagster does
//! not know: the run was probably deleted, but its absence does not prove that.

use dagster_ray_sdk::{
    model::{RunLife, RunState},
    reconciler::{Leftover, Outcome, Reconciliation, StepEnd},
};

/// What an object says about its owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The Dagster deployment that the object names.
    pub deployment: Option<String>,
    /// Whether that is the deployment of the call.
    pub is_owned: bool,
    /// The Dagster run id.
    pub run_id: Option<String>,
    /// The Dagster step key.
    pub step_key: Option<String>,
    /// The attempt of the step, or of the run without a step.
    pub attempt: Option<u32>,
    /// When the object was created, in seconds since the Unix epoch.
    pub created_s: Option<u64>,
    /// Whether the object is the job of the step's worker, not of a script.
    pub is_step_worker: bool,
    /// Whether the object's job has ended.
    pub has_ended: bool,
    /// Whether the worker that launched the object, a script, has ended.
    pub has_lost_its_worker: bool,
}

impl Owner {
    /// Returns the leftover with this owner. Its outcome is that of a dry run.
    #[must_use]
    pub fn leftover(&self, kind: &str, namespace: Option<&str>, name: &str, reason: String) -> Leftover {
        Leftover {
            kind: kind.to_owned(),
            name: name.to_owned(),
            namespace: namespace.map(str::to_owned),
            deployment: self.deployment.clone(),
            run_id: self.run_id.clone(),
            step_key: self.step_key.clone(),
            attempt: self.attempt,
            reason,
            outcome: if self.is_owned { Outcome::WouldRemove } else { Outcome::NotOwned },
            problem: None,
        }
    }

    fn step(&self) -> Option<(&str, &str)> {
        Some((self.run_id.as_deref()?, self.step_key.as_deref()?))
    }
}

/// The decision about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its owner may still need it.
    Keep,
    /// It is left alone for this reason.
    NotOwned(String),
    /// It has outlived its owner, for this reason.
    Over(String),
}

/// What Dagster knows, and which attempts of steps have objects and workers.
pub struct Facts<'r> {
    rule: &'r Reconciliation,
    now_s: u64,
    owners: Vec<&'r Owner>,
}

impl<'r> Facts<'r> {
    /// Collects the facts. `owners` are those of all objects. `now_s` is in seconds since the Unix epoch.
    pub fn new(rule: &'r Reconciliation, now_s: u64, owners: impl IntoIterator<Item = &'r Owner>) -> Self {
        Self { rule, now_s, owners: owners.into_iter().filter(|owner| owner.is_owned).collect() }
    }

    /// Decides about an object that exists for the run or the step attempt of its owner.
    #[must_use]
    pub fn judge(&self, owner: &Owner) -> Verdict {
        if !owner.is_owned {
            return Verdict::NotOwned(not_owned(owner));
        }
        let Some(run_id) = owner.run_id.as_deref() else { return Verdict::Keep };
        match self.run(run_id) {
            Some(run) if run.state == RunState::Live => self.judge_step(owner),
            Some(run) => self.judge_end(run),
            None => self.judge_unknown(owner),
        }
    }

    /// Returns why the run of a holder, such as `<run id>-<resource uid>`, is over. `None` if it is not.
    #[must_use]
    pub fn holder_is_over(&self, holder: &str) -> Option<String> {
        match self.judge_end(self.run_of(holder)?) {
            Verdict::Over(reason) => Some(reason),
            Verdict::Keep | Verdict::NotOwned(_) => None,
        }
    }

    /// Returns whether Dagster knows that the run of a holder is live.
    #[must_use]
    pub fn holder_is_live(&self, holder: &str) -> bool {
        self.run_of(holder).is_some_and(|run| run.state == RunState::Live)
    }

    /// Returns whether something that ended at this time, in seconds since the Unix epoch, has ended for longer
    /// than its worker needs to exit.
    #[must_use]
    pub fn has_settled(&self, ended_s: u64) -> bool {
        self.now_s.saturating_sub(ended_s) >= self.rule.ended_grace_s
    }

    fn run_of(&self, holder: &str) -> Option<&RunLife> {
        let shorter = holder.rmatch_indices('-').map(|(at, _)| &holder[..at]);
        std::iter::once(holder).chain(shorter).find_map(|run_id| self.run(run_id))
    }

    fn run(&self, run_id: &str) -> Option<&RunLife> {
        self.rule.runs.iter().find(|run| run.run_id == run_id)
    }

    fn judge_end(&self, run: &RunLife) -> Verdict {
        let reason = match run.state {
            RunState::Live => return Verdict::Keep,
            RunState::Succeeded => "its run has succeeded",
            RunState::Failed => "its run has failed or was canceled",
        };
        if run.ended_at.is_none_or(|ended| self.has_settled(ended)) {
            Verdict::Over(reason.to_owned())
        } else {
            Verdict::Keep
        }
    }

    fn judge_step(&self, owner: &Owner) -> Verdict {
        let (Some(step), Some(attempt)) = (owner.step(), owner.attempt) else { return Verdict::Keep };
        if owner.has_lost_its_worker {
            return Verdict::Over("the worker that launched it has ended".to_owned());
        }
        let of_step = || self.owners.iter().filter(|other| other.step() == Some(step));
        if let Some(latest) = of_step().filter_map(|other| other.attempt).max()
            && latest > attempt
        {
            return Verdict::Over(format!("attempt {latest} of its step has started"));
        }
        let mut workers = of_step().filter(|other| other.is_step_worker && other.attempt == Some(attempt));
        // A worker that ends by itself waits for its scripts first.
        if workers.next().is_some_and(|worker| worker.has_ended) && workers.all(|worker| worker.has_ended) {
            return Verdict::Over(format!("the worker of attempt {attempt} of its step has ended"));
        }
        let is_same = |end: &&StepEnd| (end.run_id.as_str(), end.step_key.as_str()) == step;
        match self.rule.ended_steps.iter().find(is_same) {
            Some(end) if end.attempt >= attempt && self.has_settled(end.ended_at) => {
                Verdict::Over(format!("attempt {attempt} of its step has ended"))
            }
            _ => Verdict::Keep,
        }
    }

    fn judge_unknown(&self, owner: &Owner) -> Verdict {
        let (Some(grace_s), Some(created_s)) = (self.rule.unknown_grace_s, owner.created_s) else {
            return Verdict::Keep;
        };
        let age_s = self.now_s.saturating_sub(created_s);
        if age_s < grace_s {
            return Verdict::Keep;
        }
        Verdict::Over(format!("Dagster does not know its run, and it was created {age_s} s ago"))
    }
}

fn not_owned(owner: &Owner) -> String {
    match &owner.deployment {
        Some(deployment) => format!("it belongs to the deployment {deployment}"),
        None => "it names no deployment".to_owned(),
    }
}
