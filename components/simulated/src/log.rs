//! A job's output as the body of an answer: it goes on while the job does.

use std::io::{self, Read};

use dagster_ray_sdk::{Error, error, http::Source};

use crate::{head, keys::Keys, machine::Machine, simulation::Simulation};

/// How often there is a look for more.
const LOOK_MS: u64 = 20;

/// The output of one job, over one connection.
pub(crate) struct Log<K, M> {
    simulation: Simulation<K, M>,
    id: String,
    label: String,
    offset: u64,
    ready: Vec<u8>,
    /// How many lines are left before the connection breaks, where it does.
    lines_left: Option<u64>,
    at_end: bool,
}

impl<K: Keys, M: Machine> Log<K, M> {
    pub(crate) fn new(
        simulation: Simulation<K, M>,
        id: &str,
        label: String,
        lines_left: Option<u64>,
    ) -> Self {
        Self { simulation, id: id.to_owned(), label, offset: 0, ready: Vec::new(), lines_left, at_end: false }
    }

    /// Takes what there is. Whether the job has ended is asked before, so that its last lines are
    /// not missed.
    fn fill(&mut self) -> Result<(), Error> {
        if !self.ready.is_empty() || self.at_end {
            return Ok(());
        }
        if self.simulation.is_away()? {
            return Err(head::broken(&self.label));
        }
        let ended = self.simulation.look(&self.id)?.is_none_or(|job| !job.runs());
        self.ready = self.simulation.machine().output(&self.id, self.offset)?;
        self.offset += self.ready.len() as u64;
        self.at_end = self.ready.is_empty() && ended;
        Ok(())
    }

    /// How much may be delivered before the connection breaks.
    fn allowed(&mut self, wanted: usize) -> usize {
        let count = wanted.min(self.ready.len());
        let Some(left) = &mut self.lines_left else { return count };
        for (at, byte) in self.ready[..count].iter().enumerate() {
            if *byte == b'\n' {
                *left -= 1;
                if *left == 0 {
                    return at + 1;
                }
            }
        }
        count
    }
}

impl<K: Keys, M: Machine> Source for Log<K, M> {
    fn ready_within(&mut self, ms: u64) -> bool {
        let started = self.simulation.machine().now_ms();
        loop {
            if self.lines_left == Some(0) || self.fill().is_err() || !self.ready.is_empty() || self.at_end {
                return true;
            }
            if self.simulation.machine().now_ms().saturating_sub(started) >= ms {
                return false;
            }
            self.simulation.machine().pause(LOOK_MS);
        }
    }
}

impl<K: Keys, M: Machine> Read for Log<K, M> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.lines_left == Some(0) {
            return Err(error::into_io(head::broken(&self.label)));
        }
        loop {
            self.fill().map_err(error::into_io)?;
            if self.at_end {
                return Ok(0);
            }
            let count = self.allowed(buffer.len());
            if count > 0 {
                buffer[..count].copy_from_slice(&self.ready[..count]);
                self.ready.drain(..count);
                return Ok(count);
            }
            self.simulation.machine().pause(LOOK_MS);
        }
    }
}
