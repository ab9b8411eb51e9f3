//! Reads a component's imports and exports from its type, before compilation.

use std::path::Path;

use wasmparser::types::Types;
use wasmparser::{ComponentExternalKind, Encoding, Parser, Payload, Validator, WasmFeatures};

use crate::contract::{Contract, Interface};
use crate::error::LoadError;
use crate::expansion;

/// The version of the contract that this host implements.
const CONTRACT: &str = "0.1";
/// Maximum number of imports, and of exports, of a component. The contract has a dozen.
const MAX_INTERFACES: usize = 1_000;
/// Maximum length of the name of an import or export, in bytes. Those of the contract and of WASI have about 50.
const MAX_NAME_BYTES: usize = 256;
/// Maximum length of a difference from the contract in an error, in bytes. It can name a component's own types.
const MAX_DIFFERENCE_BYTES: usize = 1_000;
/// Maximum number of names that an error lists.
const MAX_LISTED: usize = 12;

/// The imports and exports of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introspection {
    /// The interfaces of the contract that the component exports.
    pub interfaces: Vec<Interface>,
    /// The names of all imports.
    pub imports: Vec<String>,
    /// The names of all exports.
    pub exports: Vec<String>,
    /// The version of the contract that the component was built for, such as `0.1.0`.
    pub contract: String,
}

/// Validates a component file and reads its imports and exports. The path appears in messages.
///
/// # Errors
/// If the bytes are not a valid component, the component was built for another version of the
/// contract, or it exports no interface of the contract.
pub fn read(path: &Path, bytes: &[u8]) -> Result<Introspection, LoadError> {
    read_with_types(path, bytes).map(|(introspection, _)| introspection)
}

/// Returns the imports and exports of a component that was validated and compared with the contract when it was
/// compiled. `exports` are the names of its exported instances. The path appears in messages.
///
/// # Errors
/// If the component was built for another version of the contract, or exports no interface of the contract.
pub(crate) fn of_names(
    path: &Path,
    imports: Vec<String>,
    exports: Vec<String>,
) -> Result<Introspection, LoadError> {
    let (interfaces, contract) = interfaces(path, &imports, &exports)?;
    Ok(Introspection { interfaces, imports, exports, contract })
}

pub(crate) fn read_with_types(path: &Path, bytes: &[u8]) -> Result<(Introspection, Types), LoadError> {
    let not = |problem: String| LoadError::NotAComponent { path: path.to_owned(), problem };
    let invalid = |error: wasmparser::BinaryReaderError| {
        not(format!(
            "the file is not a whole WebAssembly component, invalid at byte {} of {}: {}. It may be truncated: copy or build it again",
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
        Some(Err(error)) if bytes.starts_with(b"\0asm") => return Err(invalid(error)),
        _ => return Err(not("this is not a WebAssembly file (it does not begin with \\0asm)".into())),
    }
    let types = Validator::new_with_features(WasmFeatures::default()).validate_all(bytes).map_err(invalid)?;
    if let Some(problem) = expansion::problem(bytes).map_err(invalid)? {
        return Err(not(problem));
    }

    let mut depth = 0_usize;
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(invalid)? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    imports.push(import.map_err(invalid)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    let export = export.map_err(invalid)?;
                    if export.kind == ComponentExternalKind::Instance {
                        exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    for (what, names) in [("imports", &imports), ("exports", &exports)] {
        if names.len() > MAX_INTERFACES {
            return Err(not(format!(
                "it has {} {what}, more than the limit of {MAX_INTERFACES}",
                names.len()
            )));
        }
        if let Some(bytes) = names.iter().map(String::len).find(|bytes| *bytes > MAX_NAME_BYTES) {
            return Err(not(format!(
                "a name of its {what} has {bytes} bytes, more than the limit of {MAX_NAME_BYTES}"
            )));
        }
    }
    let (interfaces, contract) = interfaces(path, &imports, &exports)?;
    let introspection = Introspection { interfaces, imports, exports, contract };
    Ok((introspection, types))
}

/// Compares each exported interface with the contract.
pub(crate) fn compare(path: &Path, read: &Introspection, types: &Types) -> Result<(), LoadError> {
    let contract =
        Contract::get().map_err(|problem| LoadError::Engine(format!("the contract: {problem}")))?;
    for interface in &read.interfaces {
        let Some(export) = read.exports.iter().find(|export| is_export_of(export, *interface)) else {
            continue;
        };
        if let Err(mut difference) = contract.compare(*interface, types.as_ref(), &read.imports, export) {
            let problem = &mut difference.problem;
            if problem.len() > MAX_DIFFERENCE_BYTES {
                problem.truncate(problem.floor_char_boundary(MAX_DIFFERENCE_BYTES));
                problem.push('…');
            }
            return Err(LoadError::ContractMismatch {
                path: path.to_owned(),
                interface: export.clone(),
                function: difference.function,
                problem: difference.problem,
                host_version: contract.version().to_owned(),
            });
        }
    }
    Ok(())
}

fn is_export_of(export: &str, interface: Interface) -> bool {
    export
        .strip_prefix("dagster-ray:backend/")
        .and_then(|rest| rest.split_once('@'))
        .is_some_and(|(name, _)| name == interface.name())
}

fn interfaces(
    path: &Path,
    imports: &[String],
    exports: &[String],
) -> Result<(Vec<Interface>, String), LoadError> {
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
        .filter(|interface| exports.iter().any(|export| is_export_of(export, *interface)))
        .collect();
    let Some(first) = found.first() else {
        let more = exports.len().saturating_sub(MAX_LISTED);
        let listed: Vec<_> = exports.iter().take(MAX_LISTED).map(String::as_str).collect();
        let exports = match (listed.is_empty(), more) {
            (true, _) => "nothing".to_owned(),
            (false, 0) => listed.join(", "),
            (false, more) => format!("{}, and {more} more", listed.join(", ")),
        };
        return Err(LoadError::NoBackend { path: path.to_owned(), exports });
    };
    let export = exports.iter().find(|export| is_export_of(export, *first));
    let contract = export.and_then(|name| name.split_once('@')).map_or("", |(_, version)| version);
    let contract = contract.to_owned();
    Ok((found, contract))
}
