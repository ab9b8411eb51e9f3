//! How much of everything a component may use.

use std::time::Duration;

use serde::Deserialize;

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr,)*) => {
        /// A component's limits. Each has a default; a manifest can lower or raise it, the operator can
        /// only lower it.
        #[derive(Debug, Clone, Deserialize, PartialEq)]
        #[serde(deny_unknown_fields, default)]
        pub struct Limits {
            $($(#[$doc])* pub $name: $type,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// What the operator lets a component use at the most. What is not named stays as it is.
        #[derive(Debug, Clone, Default, Deserialize, PartialEq)]
        #[serde(deny_unknown_fields, default)]
        pub struct AtMost {
            $($(#[$doc])* pub $name: Option<$type>,)*
        }

        impl Limits {
            /// The lower of each.
            pub fn narrowed(&self, by: &AtMost) -> Self {
                Self { $($name: by.$name.map_or(self.$name, |most| self.$name.min(most)),)* }
            }

            pub(crate) fn numbers(&self) -> Vec<(&'static str, f64)> {
                vec![$((stringify!($name), f64::from(self.$name)),)*]
            }
        }

        impl AtMost {
            pub(crate) fn numbers(&self) -> Vec<(&'static str, f64)> {
                let all = [$((stringify!($name), self.$name.map(f64::from)),)*];
                all.into_iter().filter_map(|(name, number)| Some((name, number?))).collect()
            }
        }
    };
}

limits! {
    /// Linear memory, in MiB.
    memory_mib: u32 = 128,
    /// Elements of all tables together.
    table_elements: u32 = 20_000,
    /// Core instances, memories and tables, each.
    instances: u32 = 100,
    /// Handles that the component holds at one time.
    handles: u32 = 1_024,
    /// Bytes that one host call may move out of the component, in MiB.
    transfer_mib: u32 = 16,
    /// Wall clock of one call, in seconds. A caller may ask for less.
    call_seconds: f64 = 600.0,
    /// Wall clock of one call that goes on for as long as a script does, in seconds.
    follow_seconds: f64 = 7.0 * 86_400.0,
    /// Bytes of an HTTP request's body, in MiB.
    request_mib: u32 = 1_024,
    /// Bytes of an HTTP response's body, in MiB.
    response_mib: u32 = 256,
    /// Bytes of log lines and reports of one call, in KiB; what goes beyond is dropped and counted.
    log_kib: u32 = 1_024,
    /// Bytes of standard error that are kept, in KiB.
    stderr_kib: u32 = 16,
}

impl Limits {
    /// The longest that a call may take; one that `follows` goes on for as long as a script does.
    pub fn wall_clock(&self, follows: bool) -> Duration {
        let seconds = if follows { self.follow_seconds } else { self.call_seconds };
        Duration::try_from_secs_f64(seconds.clamp(0.001, 1e9)).unwrap_or(Duration::from_millis(1))
    }

    /// What is wrong with them; nothing where all can be kept.
    pub(crate) fn problem(&self) -> Option<String> {
        problem(&self.numbers())
    }
}

impl AtMost {
    /// What is wrong with them; nothing where all can be kept.
    pub(crate) fn problem(&self) -> Option<String> {
        problem(&self.numbers())
    }

    /// Those that allow more than a manifest asks for, and so change nothing.
    pub(crate) fn without_effect(&self, on: &Limits) -> Vec<String> {
        let own = on.numbers();
        let of = |name| own.iter().find(|(own, _)| *own == name).map(|(_, number)| *number);
        self.numbers()
            .into_iter()
            .filter_map(|(name, most)| {
                let asked = of(name)?;
                (most > asked).then(|| format!("limits.{name} = {most} (the component has {asked})"))
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
    fn a_number_that_no_clock_can_keep_is_refused() {
        for text in ["call_seconds = nan", "follow_seconds = inf", "call_seconds = -1.0", "handles = 0"] {
            let limits: Limits = toml::from_str(text).unwrap();
            assert!(limits.problem().is_some_and(|problem| problem.contains("above 0")), "{text}");
        }
        assert_eq!(Limits::default().problem(), None);
        assert_eq!(Limits { call_seconds: f64::NAN, ..Limits::default() }.wall_clock(false).as_millis(), 1);
    }

    #[test]
    fn what_the_operator_does_not_name_stays() {
        let own = Limits { call_seconds: 3_600.0, ..Limits::default() };
        let by = AtMost { memory_mib: Some(32), handles: Some(9_999), ..AtMost::default() };
        let narrowed = own.narrowed(&by);
        assert_eq!((narrowed.memory_mib, narrowed.call_seconds), (32, 3_600.0));
        assert_eq!(by.without_effect(&own), ["limits.handles = 9999 (the component has 1024)"]);
    }
}
