//! Resource limits of a component.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::schema::{self, Schema};

macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr,)*) => {
        /// A component's limits. Each has a default. A manifest can raise or lower a limit; the operator
        /// can only lower it.
        #[derive(Debug, Clone, Deserialize, PartialEq)]
        #[serde(deny_unknown_fields, default)]
        pub struct Limits {
            $($(#[doc = $doc])+ pub $name: $type,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// The operator's upper bounds. A limit without an upper bound is unchanged.
        #[derive(Debug, Clone, Default, Deserialize, PartialEq)]
        #[serde(deny_unknown_fields, default)]
        pub struct LimitOverrides {
            $($(#[doc = $doc])+ pub $name: Option<$type>,)*
        }

        impl Limits {
            /// Returns the lower value of each limit.
            pub fn restricted(&self, by: &LimitOverrides) -> Self {
                Self { $($name: by.$name.map_or(self.$name, |most| self.$name.min(most)),)* }
            }

            pub(crate) fn numbers(&self) -> Vec<(&'static str, f64)> {
                vec![$((stringify!($name), f64::from(self.$name)),)*]
            }
        }

        impl Schema for Limits {
            fn schema() -> Value {
                let mut keys = Map::new();
                $(
                    let key = schema::described(<$type as Schema>::schema(), concat!($($doc),+));
                    let key = schema::with(key, "exclusiveMinimum", 0.into());
                    let default: $type = $default;
                    keys.insert(stringify!($name).to_owned(), schema::with(key, "default", default.into()));
                )*
                schema::table(keys)
            }
        }

        impl LimitOverrides {
            pub(crate) fn numbers(&self) -> Vec<(&'static str, f64)> {
                let all = [$((stringify!($name), self.$name.map(f64::from)),)*];
                all.into_iter().filter_map(|(name, number)| Some((name, number?))).collect()
            }
        }
    };
}

limits! {
    /// Linear memory of one call, all memories together, in MiB.
    memory_mib: u32 = 128,
    /// Total elements of all tables.
    table_elements: u32 = 20_000,
    /// Core instances, memories and tables, counted separately.
    instances: u32 = 100,
    /// Resource handles that the component holds at one time.
    handles: u32 = 1_024,
    /// Data that one host call may copy out of the component, in MiB.
    transfer_mib: u32 = 16,
    /// Wall-clock time of one call, in seconds. A caller may set a shorter timeout.
    call_seconds: f64 = 600.0,
    /// Wall-clock time of one call that lasts as long as a script, in seconds.
    follow_seconds: f64 = 7.0 * 86_400.0,
    /// Body of an HTTP request, in MiB.
    request_mib: u32 = 1_024,
    /// Body of an HTTP response, in MiB.
    response_mib: u32 = 256,
    /// Log lines and reports of one call, in KiB. The rest is dropped.
    log_kib: u32 = 1_024,
    /// Standard error that is kept, in KiB.
    stderr_kib: u32 = 16,
}

impl Limits {
    /// Returns the wall-clock limit of a call. A call that `follows` lasts as long as a script.
    pub fn wall_clock(&self, follows: bool) -> Duration {
        let seconds = if follows { self.follow_seconds } else { self.call_seconds };
        Duration::try_from_secs_f64(seconds.clamp(0.001, 1e9)).unwrap_or(Duration::from_millis(1))
    }

    /// Returns the first invalid limit, or none if all are positive and finite.
    pub(crate) fn problem(&self) -> Option<String> {
        problem(&self.numbers())
    }
}

impl LimitOverrides {
    /// Returns the first invalid bound, or none if all are positive and finite.
    pub(crate) fn problem(&self) -> Option<String> {
        problem(&self.numbers())
    }

    /// Returns the bounds above the manifest's limits, which have no effect.
    pub(crate) fn ineffective(&self, on: &Limits) -> Vec<String> {
        let limits = on.numbers();
        let limit_of = |name| limits.iter().find(|(limit, _)| *limit == name).map(|(_, number)| *number);
        self.numbers()
            .into_iter()
            .filter_map(|(name, most)| {
                let limit = limit_of(name)?;
                (most > limit).then(|| format!("limits.{name} = {most} (the component has {limit})"))
            })
            .collect()
    }
}

fn problem(numbers: &[(&'static str, f64)]) -> Option<String> {
    let (name, number) = numbers.iter().find(|(_, number)| !(number.is_finite() && *number > 0.0))?;
    Some(format!("limits.{name} is {number}: write a number above 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_are_not_positive_and_finite_are_rejected() {
        for text in ["call_seconds = nan", "follow_seconds = inf", "call_seconds = -1.0", "handles = 0"] {
            let limits: Limits = toml::from_str(text).unwrap();
            assert!(limits.problem().is_some_and(|problem| problem.contains("above 0")), "{text}");
        }
        assert_eq!(Limits::default().problem(), None);
        assert_eq!(Limits { call_seconds: f64::NAN, ..Limits::default() }.wall_clock(false).as_millis(), 1);
    }

    #[test]
    fn limits_that_the_operator_does_not_name_are_unchanged() {
        let own = Limits { call_seconds: 3_600.0, ..Limits::default() };
        let by = LimitOverrides { memory_mib: Some(32), handles: Some(9_999), ..LimitOverrides::default() };
        let restricted = own.restricted(&by);
        assert_eq!((restricted.memory_mib, restricted.call_seconds), (32, 3_600.0));
        assert_eq!(by.ineffective(&own), ["limits.handles = 9999 (the component has 1024)"]);
    }
}
