//! Test doubles: a bucket in memory, and a machine whose jobs run until the test ends them.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use dagster_ray_sdk::Error;

use crate::{
    keys::KeyValueStore,
    machine::{Launch, Machine},
};

#[derive(Default)]
pub(crate) struct MemoryStore(RefCell<BTreeMap<String, Vec<u8>>>);

impl KeyValueStore for MemoryStore {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.borrow().get(key).cloned())
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.0.borrow_mut().insert(key.to_owned(), value.to_vec());
        Ok(())
    }

    fn delete(&self, key: &str) -> Result<(), Error> {
        self.0.borrow_mut().remove(key);
        Ok(())
    }

    fn keys_with_prefix(&self, prefix: &str) -> Result<Vec<String>, Error> {
        Ok(self.0.borrow().keys().filter(|key| key.starts_with(prefix)).cloned().collect())
    }

    fn add(&self, key: &str, delta: u64) -> Result<u64, Error> {
        let sum = self.number(key)? + delta;
        self.set(key, sum.to_string().as_bytes())?;
        Ok(sum)
    }
}

/// A machine whose jobs write their output when they start. A job ends when the test calls `end`, or at the
/// time set by `ends_after`.
#[derive(Default)]
pub(crate) struct FakeMachine {
    pub(crate) started: RefCell<Vec<(String, Launch)>>,
    exits: RefCell<BTreeMap<String, i32>>,
    output: RefCell<String>,
    now: Cell<u64>,
    ends_at: Cell<Option<u64>>,
    pub(crate) waited: Cell<u64>,
}

impl FakeMachine {
    pub(crate) fn writes(&self, output: &str) {
        output.clone_into(&mut self.output.borrow_mut());
    }

    pub(crate) fn end(&self, id: &str, code: i32) {
        self.exits.borrow_mut().insert(id.to_owned(), code);
    }

    /// Ends every job with exit code 0 after `ms` milliseconds of real time.
    pub(crate) fn ends_after(&self, ms: u64) {
        self.ends_at.set(Some(self.now.get() + ms));
    }
}

impl Machine for FakeMachine {
    fn start(&self, id: &str, launch: &Launch) -> Result<(), Error> {
        self.started.borrow_mut().push((id.to_owned(), launch.clone()));
        if launch.entrypoint == "kill -KILL $$" {
            self.end(id, -9);
        }
        Ok(())
    }

    fn is_lost(&self, _id: &str) -> bool {
        false
    }

    fn exit_code(&self, id: &str) -> Result<Option<i32>, Error> {
        let over = self.ends_at.get().is_some_and(|at| at <= self.now.get());
        Ok(self.exits.borrow().get(id).copied().or(over.then_some(0)))
    }

    fn output(&self, id: &str, offset: u64) -> Result<Vec<u8>, Error> {
        let there = self
            .started
            .borrow()
            .iter()
            .any(|(known, launch)| known == id && launch.entrypoint != "kill -KILL $$");
        let output = self.output.borrow();
        let from = usize::try_from(offset).unwrap().min(output.len());
        Ok(if there { output.as_bytes()[from..].to_vec() } else { Vec::new() })
    }

    fn pause(&self, ms: u64) {
        self.waited.set(self.waited.get() + ms);
        self.now.set(self.now.get() + ms);
    }

    fn now_ms(&self) -> u64 {
        self.now.get()
    }
}
