//! The commands, one file each.
//!
//! A command is `mod name;` and its line in `commands!`: its file has `Arguments` and
//! `run(arguments, context)`. The first paragraph of `Arguments`' documentation is what
//! `dagster-ray --help` says of it.

mod call;
mod check;
mod clean;
mod completions;
mod components;
mod inspect;
mod new;
mod pull;
mod push;
mod record;
mod replay;
mod watch;

use crate::context::Context;
use crate::exit::Exit;

macro_rules! commands {
    ($($Variant:ident => $module:ident,)*) => {
        #[derive(clap::Subcommand)]
        #[allow(clippy::large_enum_variant, reason = "there is one in a process")]
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
    Call => call,
    Check => check,
    Record => record,
    Replay => replay,
    New => new,
    Watch => watch,
    Pull => pull,
    Push => push,
    Clean => clean,
    Completions => completions,
}
