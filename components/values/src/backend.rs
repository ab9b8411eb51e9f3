//! The trait that an I/O backend implements, and the macro that exports it as a component.

use dagster_ray_sdk::Error;
use dagster_ray_sdk::bindings::{
    describe::{Description, Role},
    io::IoContext,
};

use crate::options::Options;
use crate::rules::Values;
use crate::store::{HostStore, ValueHandle};

/// An I/O backend: a component that stores values.
pub trait Backend {
    /// The name of the component.
    const NAME: &str;
    /// The version of the component.
    const VERSION: &str;
    /// A one-sentence summary.
    const SUMMARY: &str;
    /// The name of the store that the component's manifest grants.
    const STORE: &str;
}

/// Returns the backend's description for the export `describe`.
#[must_use]
pub fn describe<B: Backend>() -> Description {
    Description {
        name: B::NAME.to_owned(),
        version: B::VERSION.to_owned(),
        summary: B::SUMMARY.to_owned(),
        options: vec![(Role::Io, Options::SCHEMA.to_owned())],
        settings: Vec::new(),
    }
}

/// Opens the backend's store with the caller's options.
///
/// # Errors
/// The options are invalid, or the manifest does not grant the store.
pub fn values<'a, B: Backend>(context: &IoContext) -> Result<Values<HostStore, ValueHandle<'a>>, Error> {
    Values::new(HostStore::open(B::STORE)?, context, wasip2::clocks::wall_clock::now().seconds)
}

/// Returns the value of a handle that was loaded, or `None` for a borrowed one.
#[must_use]
pub fn into_owned(handle: ValueHandle<'_>) -> Option<dagster_ray_sdk::bindings::objects::Value> {
    match handle {
        ValueHandle::Owned(value) => Some(value),
        ValueHandle::Borrowed(_) => None,
    }
}

/// Exports a [`Backend`] as a component of the world `io-backend`.
#[macro_export]
macro_rules! export_backend {
    ($backend:ident) => {
        const _: () = {
            use ::dagster_ray_sdk::bindings::{describe, io, model::Error, objects::Value};
            use $crate::{backend, store::ValueHandle};

            impl describe::Guest for $backend {
                fn describe() -> describe::Description {
                    backend::describe::<Self>()
                }
            }

            impl io::Guest for $backend {
                fn save(
                    address: io::Address,
                    value: &Value,
                    context: io::IoContext,
                ) -> Result<io::Stored, Error> {
                    backend::values::<Self>(&context)?.save(&address, &ValueHandle::Borrowed(value))
                }

                fn load(address: io::Address, context: io::IoContext) -> Result<Value, Error> {
                    let loaded = backend::values::<Self>(&context)?.load(&address)?;
                    let missing = || Error::Other("the store returned no value".to_owned());
                    backend::into_owned(loaded).ok_or_else(missing)
                }

                fn load_many(
                    addresses: Vec<io::Address>,
                    context: io::IoContext,
                ) -> Result<Vec<(String, Value)>, Error> {
                    let loaded = backend::values::<Self>(&context)?.load_many(&addresses)?;
                    Ok(loaded
                        .into_iter()
                        .filter_map(|(name, handle)| Some((name, backend::into_owned(handle)?)))
                        .collect())
                }

                fn list(selection: io::Selection, context: io::IoContext) -> Result<Vec<io::Stored>, Error> {
                    backend::values::<Self>(&context)?.list(selection)
                }

                fn delete(selection: io::Selection, context: io::IoContext) -> Result<u32, Error> {
                    backend::values::<Self>(&context)?.delete(selection)
                }
            }
        };

        ::dagster_ray_sdk::export!($backend: describe, io);
    };
}
