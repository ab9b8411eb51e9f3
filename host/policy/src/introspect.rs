//! What a component imports and exports, read from its own type before anything is compiled.

use std::path::Path;

use wasmparser::{ComponentExternalKind, Encoding, Parser, Payload, Validator, WasmFeatures};

use crate::error::LoadError;

/// The version of the contract that this host speaks.
const CONTRACT: &str = "0.1";

/// An interface of the contract that a component can export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Interface {
    /// What the component says of itself.
    Describe,
    /// Runs.
    Launcher,
    /// Steps.
    Executor,
    /// Clusters.
    Cluster,
    /// External scripts.
    Pipes,
    /// Values.
    Io,
}

impl Interface {
    const ALL: [Self; 6] =
        [Self::Describe, Self::Launcher, Self::Executor, Self::Cluster, Self::Pipes, Self::Io];

    /// Its name in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::Describe => "describe",
            Self::Launcher => "launcher",
            Self::Executor => "executor",
            Self::Cluster => "cluster",
            Self::Pipes => "pipes",
            Self::Io => "io",
        }
    }
}

/// What a component imports and exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introspection {
    /// The interfaces of the contract that it exports.
    pub interfaces: Vec<Interface>,
    /// The names of all its imports.
    pub imports: Vec<String>,
    /// The names of all its exports.
    pub exports: Vec<String>,
}

/// Reads a component's type, after checking that the whole file is valid. The path is for messages.
///
/// # Errors
/// Where the bytes are no whole component, or one of another version of the contract, or one
/// without any export that the host could call.
pub fn read(path: &Path, bytes: &[u8]) -> Result<Introspection, LoadError> {
    let not = |problem: String| LoadError::NotAComponent { path: path.to_owned(), problem };
    let broken = |error: wasmparser::BinaryReaderError| {
        not(format!(
            "the file is not a whole WebAssembly component, it breaks at byte {} of {}: {}. It may be cut short: copy or build it again",
            error.offset(),
            bytes.len(),
            error.message()
        ))
    };
    match Parser::new(0).parse_all(bytes).next() {
        Some(Ok(Payload::Version { encoding: Encoding::Component, .. })) => {}
        Some(Ok(Payload::Version { encoding: Encoding::Module, .. })) => {
            return Err(not(
                "this is a core module, not a component. Build it with `--target wasm32-wasip2`, or wrap it with `wasm-tools component new`"
                    .into(),
            ));
        }
        Some(Err(error)) if bytes.starts_with(b"\0asm") => return Err(broken(error)),
        _ => return Err(not("this is no WebAssembly file at all (it does not begin with \\0asm)".into())),
    }
    Validator::new_with_features(WasmFeatures::default()).validate_all(bytes).map_err(broken)?;

    let mut depth = 0_usize;
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(broken)? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    imports.push(import.map_err(broken)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    let export = export.map_err(broken)?;
                    if export.kind == ComponentExternalKind::Instance {
                        exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    let interfaces = interfaces(path, &imports, &exports)?;
    Ok(Introspection { interfaces, imports, exports })
}

fn interfaces(path: &Path, imports: &[String], exports: &[String]) -> Result<Vec<Interface>, LoadError> {
    for name in imports.iter().chain(exports) {
        if let Some((package, version)) = name.split_once('@')
            && package.starts_with("dagster-ray:")
            && !version.starts_with(&format!("{CONTRACT}."))
        {
            return Err(LoadError::Contract {
                path: path.to_owned(),
                found: name.clone(),
                supported: format!("dagster-ray:host and dagster-ray:backend {CONTRACT}.x"),
            });
        }
    }
    let found: Vec<_> = Interface::ALL
        .into_iter()
        .filter(|interface| {
            let prefix = format!("dagster-ray:backend/{}@", interface.name());
            exports.iter().any(|export| export.starts_with(&prefix))
        })
        .collect();
    if found.is_empty() {
        let exports = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
        return Err(LoadError::NoBackend { path: path.to_owned(), exports });
    }
    Ok(found)
}
