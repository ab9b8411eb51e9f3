//! The one configuration of wasmtime, and the clock that interrupts guests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

use wasmtime::{Config, Engine, OptLevel};

use dagster_ray_policy::LoadError;

use crate::error::refused;

/// How often a running guest yields to the host. A deadline is late by this much at the most.
const TICK: Duration = Duration::from_millis(10);

/// An engine that compiles for every CPU of this architecture, not only for this machine's.
pub(crate) fn baseline() -> wasmtime::Result<Engine> {
    let mut config = config();
    // A named target has no feature of this machine's CPU.
    config.target(&format!("{}-unknown-linux-gnu", std::env::consts::ARCH))?;
    Engine::new(&config)
}

/// The configuration that every engine of this project uses, so that code compiled by one loads in
/// the others.
fn config() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    // Ray turns on Python's fault handler, which takes the place of wasmtime's: with traps made of
    // signals, a guest's bad memory access would end the Python process.
    config.signals_based_traps(false);
    // Refuses components with an async ABI, and makes a call several times cheaper.
    config.concurrency_support(false);
    config.epoch_interruption(true);
    // No native unwinder walks through a guest's frames: traps do not unwind.
    config.native_unwind_info(false);
    // A backtrace names functions, not offsets in them.
    config.generate_address_map(false);
    config.cranelift_opt_level(OptLevel::SpeedAndSize);
    config.max_wasm_stack(512 << 10);
    config.async_stack_size(2 << 20);
    config
}

/// Counts the calls under way; the ticker sleeps while there are none.
struct Active {
    calls: AtomicUsize,
    ticker: std::sync::OnceLock<Thread>,
}

/// The engine with its ticker.
#[derive(Clone)]
pub(crate) struct Machine {
    engine: Engine,
    active: Arc<Active>,
}

/// Keeps the ticker awake for as long as a call is under way.
pub(crate) struct Ticking(Arc<Active>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Machine {
    pub(crate) fn start() -> Result<Self, LoadError> {
        let engine = Engine::new(&config()).map_err(refused)?;
        let active = Arc::new(Active { calls: AtomicUsize::new(0), ticker: std::sync::OnceLock::new() });
        let (weak, counted) = (engine.weak(), active.clone());
        let ticker = std::thread::Builder::new()
            .name("dagster-ray-ticker".into())
            .spawn(move || {
                loop {
                    if counted.calls.load(Ordering::Acquire) == 0 {
                        std::thread::park();
                    } else {
                        std::thread::sleep(TICK);
                    }
                    match weak.upgrade() {
                        Some(engine) => engine.increment_epoch(),
                        None => return,
                    }
                }
            })
            .map_err(|error| refused(error.into()))?;
        let _ = active.ticker.set(ticker.thread().clone());
        Ok(Self { engine, active })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn tick(&self) -> Ticking {
        if self.active.calls.fetch_add(1, Ordering::AcqRel) == 0
            && let Some(ticker) = self.active.ticker.get()
        {
            ticker.unpark();
        }
        Ticking(self.active.clone())
    }
}
