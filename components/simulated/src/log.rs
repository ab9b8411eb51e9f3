//! The output of a job as a response body, which ends when the job ends.

use std::io::{self, Read};

use dagster_ray_sdk::{Error, error, http::BodySource};

use crate::{keys::KeyValueStore, machine::Machine, simulation::Simulation};

/// The interval of checks for new output.
const POLL_INTERVAL_MS: u64 = 20;

/// The output of one job, over one connection.
pub(crate) struct Log<K, M> {
    simulation: Simulation<K, M>,
    id: String,
    process: String,
    label: String,
    offset: u64,
    ready: Vec<u8>,
    /// The number of lines until an injected fault breaks the connection.
    lines_left: Option<u64>,
    at_end: bool,
}

impl<K: KeyValueStore, M: Machine> Log<K, M> {
    pub(crate) fn new(
        simulation: Simulation<K, M>,
        id: &str,
        process: String,
        label: String,
        lines_left: Option<u64>,
    ) -> Self {
        Self {
            simulation,
            id: id.to_owned(),
            process,
            label,
            offset: 0,
            ready: Vec::new(),
            lines_left,
            at_end: false,
        }
    }

    /// Reads available output. It checks first whether the job has ended, so that the last lines are not
    /// missed.
    fn fill(&mut self) -> Result<(), Error> {
        if !self.ready.is_empty() || self.at_end {
            return Ok(());
        }
        if self.simulation.is_unavailable()? {
            return Err(broken(&self.label));
        }
        let job = self.simulation.refresh(&self.id)?.filter(|job| job.process == self.process);
        let ended = job.is_none_or(|job| !job.runs());
        self.ready = self.simulation.machine().output(&self.process, self.offset)?;
        self.offset += self.ready.len() as u64;
        self.at_end = self.ready.is_empty() && ended;
        Ok(())
    }

    /// Returns the number of bytes to deliver, at most `limit`, before the connection breaks.
    fn allowed(&mut self, limit: usize) -> usize {
        let count = limit.min(self.ready.len());
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

impl<K: KeyValueStore, M: Machine> BodySource for Log<K, M> {
    fn wait_readable(&mut self, ms: u64) -> bool {
        let started = self.simulation.machine().now_ms();
        loop {
            if self.lines_left == Some(0) || self.fill().is_err() || !self.ready.is_empty() || self.at_end {
                return true;
            }
            if self.simulation.machine().now_ms().saturating_sub(started) >= ms {
                return false;
            }
            self.simulation.machine().pause(POLL_INTERVAL_MS);
        }
    }
}

impl<K: KeyValueStore, M: Machine> Read for Log<K, M> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.lines_left == Some(0) {
            return Err(error::into_io(broken(&self.label)));
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
            self.simulation.machine().pause(POLL_INTERVAL_MS);
        }
    }
}

/// Returns the error for a broken connection.
fn broken(label: &str) -> Error {
    Error::unavailable(format!("{label}: the connection broke"), false)
}
