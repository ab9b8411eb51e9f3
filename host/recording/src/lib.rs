//! Records and replays the HTTP requests of components, injects faults, and speeds up their clock.
//!
//! The crate implements the interceptor and the clock that a host of `dagster_ray_runtime` accepts. A
//! host without them sends requests directly and does not depend on this crate.
//!
//! - [`Cassette`]: the file with recorded requests and responses.
//! - [`open`]: an interceptor that records into a cassette or replays one.
//! - [`from_environment`]: the recorder or player that the environment variable [`VARIABLE`] selects.
//! - [`FaultInjector`]: an interceptor that injects faults, in front of another one.
//! - [`ClockSpeed`]: a clock for components that runs faster than real time.

#![forbid(unsafe_code)]

mod cassette;
mod clock;
mod environment;
mod faults;

pub use cassette::{
    Cassette, CassetteError, CassetteMode, Content, End, Exchange, Part, Player, RecordedError,
    RecordedRequest, RecordedResponse, Replayed, open,
};
pub use clock::ClockSpeed;
pub use environment::{VARIABLE, from_environment};
pub use faults::{FaultInjector, Faults, InjectedFault};
