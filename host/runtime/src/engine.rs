//! The wasmtime configuration, and the epoch ticker that interrupts guests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

use wasmtime::{Config, Engine, OptLevel};

use dagster_ray_policy::LoadError;

use crate::error::engine_error;

/// How often a running guest yields to the host. This is the maximum delay of a deadline.
const TICK: Duration = Duration::from_millis(10);

/// Creates an engine that compiles for every CPU of this architecture, not only for this machine.
pub(crate) fn baseline() -> wasmtime::Result<Engine> {
    let mut config = config();
    // A named target disables CPU features that are detected on this machine.
    config.target(&format!("{}-unknown-linux-gnu", std::env::consts::ARCH))?;
    Engine::new(&config)
}

/// Returns the configuration of every engine of this project, so that each engine can load code that
/// another compiled.
fn config() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    // `ray.init()` enables Python's faulthandler, which replaces wasmtime's signal handler. With
    // signals-based traps, a guest's invalid memory access would kill the Python process.
    config.signals_based_traps(false);
    // Rejects components with an async ABI, and makes a call several times cheaper.
    config.concurrency_support(false);
    config.epoch_interruption(true);
    // Traps do not unwind, so no native unwinder visits guest frames.
    config.native_unwind_info(false);
    // Backtraces name functions and need no offsets within them.
    config.generate_address_map(false);
    config.cranelift_opt_level(OptLevel::SpeedAndSize);
    config.max_wasm_stack(512 << 10);
    config.async_stack_size(2 << 20);
    config
}

/// Counts the calls in progress. The ticker thread parks while there are none.
struct Active {
    calls: AtomicUsize,
    ticker: std::sync::OnceLock<Thread>,
}

/// The wasmtime engine with its ticker thread.
#[derive(Clone)]
pub(crate) struct EngineHandle {
    engine: Engine,
    active: Arc<Active>,
}

/// Keeps the ticker running during a call.
pub(crate) struct TickGuard(Arc<Active>);

impl Drop for TickGuard {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

impl EngineHandle {
    pub(crate) fn start() -> Result<Self, LoadError> {
        let engine = Engine::new(&config()).map_err(engine_error)?;
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
            .map_err(|error| engine_error(error.into()))?;
        let _ = active.ticker.set(ticker.thread().clone());
        Ok(Self { engine, active })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn tick_guard(&self) -> TickGuard {
        if self.active.calls.fetch_add(1, Ordering::AcqRel) == 0
            && let Some(ticker) = self.active.ticker.get()
        {
            ticker.unpark();
        }
        TickGuard(self.active.clone())
    }
}
