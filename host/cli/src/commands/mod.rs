//! The commands, one file each.
//!
//! To add a command, add `mod name;` and a line in `commands!`. Its file defines `Arguments` and
//! `run(arguments, context)`. `dagster-ray --help` shows the first paragraph of `Arguments`'
//! documentation.

mod build;
mod call;
mod check;
mod clean;
mod completions;
mod components;
mod doctor;
mod explain;
mod inspect;
mod keygen;
mod new;
mod pull;
mod push;
mod reconcile;
mod record;
mod replay;
mod schema;
mod sign;
mod watch;

use crate::context::Context;
use crate::exit::Exit;

macro_rules! commands {
    ($($Variant:ident => $module:ident,)*) => {
        #[derive(clap::Subcommand)]
        #[allow(clippy::large_enum_variant, reason = "a process has one value")]
        pub(crate) enum Command {
            $($Variant($module::Arguments),)*
        }

        impl Command {
            pub(crate) fn run(self, context: &mut Context) -> anyhow::Result<Exit> {
                match self {
                    $(Self::$Variant(arguments) => $module::run(arguments, context),)*
                }
            }
        }
    };
}

commands! {
    Components => components,
    Inspect => inspect,
    Explain => explain,
    Schema => schema,
    Call => call,
    Check => check,
    Record => record,
    Replay => replay,
    New => new,
    Build => build,
    Watch => watch,
    Pull => pull,
    Push => push,
    Sign => sign,
    Keygen => keygen,
    Doctor => doctor,
    Reconcile => reconcile,
    Clean => clean,
    Completions => completions,
}
