//! The WIT files of the contract, which a new project contains in the layout that WIT tools expect.

macro_rules! files {
    ($($to:literal <- $from:literal,)*) => {
        /// Each file's path below `wit/deps`, and its text.
        pub(super) const FILES: &[super::Template] =
            &[$(($to, include_str!(concat!("../../../../../wit/", $from)))),*];
        #[cfg(test)]
        const SOURCES: &[&str] = &[$($from),*];
    };
}

files! {
    "cli.wit" <- "deps/cli.wit",
    "clocks.wit" <- "deps/clocks.wit",
    "config.wit" <- "deps/config.wit",
    "filesystem.wit" <- "deps/filesystem.wit",
    "http.wit" <- "deps/http.wit",
    "io.wit" <- "deps/io.wit",
    "keyvalue.wit" <- "deps/keyvalue.wit",
    "logging.wit" <- "deps/logging.wit",
    "random.wit" <- "deps/random.wit",
    "sockets.wit" <- "deps/sockets.wit",
    "dagster-ray-host/model.wit" <- "host/model.wit",
    "dagster-ray-host/objects.wit" <- "host/objects.wit",
    "dagster-ray-host/packages.wit" <- "host/packages.wit",
    "dagster-ray-host/processes.wit" <- "host/processes.wit",
    "dagster-ray-host/sink.wit" <- "host/sink.wit",
    "dagster-ray-backend/cluster.wit" <- "backend/cluster.wit",
    "dagster-ray-backend/describe.wit" <- "backend/describe.wit",
    "dagster-ray-backend/executor.wit" <- "backend/executor.wit",
    "dagster-ray-backend/io.wit" <- "backend/io.wit",
    "dagster-ray-backend/launcher.wit" <- "backend/launcher.wit",
    "dagster-ray-backend/pipes.wit" <- "backend/pipes.wit",
    "dagster-ray-backend/worlds.wit" <- "backend/worlds.wit",
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn project_contains_all_wit_files() {
        let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
        for package in ["deps", "host", "backend"] {
            for entry in fs::read_dir(wit.join(package)).unwrap() {
                let source = format!("{package}/{}", entry.unwrap().file_name().to_str().unwrap());
                assert!(SOURCES.contains(&source.as_str()), "add {source}");
            }
        }
        assert_eq!(SOURCES.len(), FILES.len());
    }
}
