//! `dagster-ray clean`: removes files from this user's cache.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use dagster_ray_registry::Store;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::size;

/// Remove compiled code and pulled components from this user's cache
///
/// A component that is used afterwards is compiled or pulled again. Restart a Dagster process that
/// uses a pulled component after that component was removed.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dagster-ray clean --older-than 30d
  dagster-ray clean --keep-pulled")]
pub(crate) struct Arguments {
    /// Remove only files of at least this age, such as 12h or 30d
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// Keep the pulled components
    #[arg(long)]
    keep_pulled: bool,
    /// Print what would be removed, without removing it
    #[arg(long)]
    dry_run: bool,
}

#[derive(Default, Serialize)]
struct Freed {
    folder: Option<PathBuf>,
    compiled: usize,
    pulled: usize,
    bytes: u64,
    dry_run: bool,
}

pub(crate) fn run(arguments: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    let folder = dagster_ray_runtime::cache_directory();
    let mut freed = Freed { dry_run: arguments.dry_run, folder: folder.clone(), ..Freed::default() };
    let is_old = |since: SystemTime| match arguments.older_than {
        Some(age) => since.elapsed().unwrap_or_default() >= age,
        None => true,
    };
    for code in dagster_ray_runtime::compiled_code() {
        if is_old(code.since) {
            if !arguments.dry_run {
                std::fs::remove_file(&code.path)
                    .with_context(|| format!("{} cannot be removed", code.path.display()))?;
            }
            freed.compiled += 1;
            freed.bytes += code.size;
        }
    }
    let pulled = folder.iter().filter(|_| !arguments.keep_pulled).flat_map(|cache| Store::new(cache).list());
    for (folder, pulled) in pulled {
        let modified = folder.metadata().and_then(|metadata| metadata.modified());
        let since =
            pulled.map_or_else(|| modified.unwrap_or(SystemTime::UNIX_EPOCH), |pulled| pulled.pulled_at);
        if is_old(since) {
            let bytes = folder_size(&folder);
            if !arguments.dry_run {
                std::fs::remove_dir_all(&folder)
                    .with_context(|| format!("{} cannot be removed", folder.display()))?;
            }
            freed.pulled += 1;
            freed.bytes += bytes;
        }
    }
    context.output.result(&freed, |out| {
        let verb = if freed.dry_run { "would free" } else { "freed" };
        writeln!(
            out,
            "{verb} {}: compiled code of {}, {}",
            size(freed.bytes),
            counted(freed.compiled, "component"),
            counted(freed.pulled, "pulled component")
        )
    })?;
    Ok(Exit::Done)
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn folder_size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}
