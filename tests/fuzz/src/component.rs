//! Component files: the loader reports the file's imports and exports, loads nothing with an ungranted
//! import, and rejects other bytes with a message.
//!
//! Input that starts like WebAssembly is the file itself. Other input describes a file, which is built and
//! then damaged.

use std::path::Path;

use arbitrary::Arbitrary;
use dagster_ray_policy::manifest::{Manifest, Restriction};
use dagster_ray_policy::{LoadError, RequiredGrant, check_bytes, introspect, required_grant};
use wasm_encoder::{
    Component, ComponentExportKind, ComponentExportSection, ComponentImportSection, ComponentInstanceSection,
    ComponentTypeRef, ComponentTypeSection, InstanceType, NestedComponentSection,
};

use crate::structured::structured;

const NAMES: [&str; 15] = [
    "dagster-ray:backend/",
    "dagster-ray:host/",
    "dagster-ray:other/",
    "dagster-ray-x:backend/",
    "other:backend/",
    "wasi:http/",
    "wasi:io/",
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:random/",
    "wasi:filesystem/",
    "wasi:sockets/",
    "wasi:config/",
    "wasi:logging/",
    "wasi:keyvalue/",
];
const INTERFACES: [&str; 21] = [
    "describe",
    "launcher",
    "executor",
    "cluster",
    "pipes",
    "reconciler",
    "io",
    "launcher-x",
    "types",
    "outgoing-handler",
    "incoming-handler",
    "packages",
    "objects",
    "processes",
    "kubernetes",
    "model",
    "reports",
    "store",
    "logging",
    "streams",
    "tcp",
];
const VERSIONS: [&str; 9] =
    ["", "@0.1.0", "@0.1.17", "@0.10.0", "@0.2.0", "@1.0.0", "@0.1.0-rc.1", "@0.2.12", "@11.1.0"];

#[derive(Debug, Clone, Copy)]
struct Name(usize, usize, usize);

impl<'a> Arbitrary<'a> for Name {
    fn arbitrary(source: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        let [package, interface, version]: [u8; 3] = source.arbitrary()?;
        Ok(Self(
            usize::from(package) % NAMES.len(),
            usize::from(interface) % INTERFACES.len(),
            usize::from(version) % VERSIONS.len(),
        ))
    }
}

impl Name {
    fn text(self) -> String {
        format!("{}{}{}", NAMES[self.0], INTERFACES[self.1], VERSIONS[self.2])
    }
}

#[derive(Debug)]
struct Described {
    imports: Vec<Name>,
    exports: Vec<Name>,
    /// Imports and exports of a nested component. The loader must ignore them.
    nested: Option<(Vec<Name>, Vec<Name>)>,
    nested_is_first: bool,
    granted: [bool; 6],
    pinned: Option<bool>,
    changed: Vec<(u16, u8)>,
    cut: Option<u16>,
}

structured!(Described { imports, exports, nested, nested_is_first, granted, pinned, changed; cut });

/// Checks the properties for one input. Panics if one is violated.
pub fn check(data: &[u8]) {
    if data.starts_with(b"\0asm") {
        load_arbitrary(data);
        return;
    }
    let mut source = arbitrary::Unstructured::new(data);
    let Ok(described) = Described::arbitrary(&mut source) else { return };
    let (imports, exports) = (names(&described.imports), names(&described.exports));
    let mut bytes = component(&imports, &exports, &described);
    if described.changed.is_empty() && described.cut.is_none() {
        load_built(bytes, &imports, &exports, &described);
        return;
    }
    for (at, byte) in &described.changed {
        let at = usize::from(*at) % bytes.len();
        bytes[at] ^= byte;
    }
    if let Some(cut) = described.cut {
        bytes.truncate(usize::from(cut) % bytes.len());
    }
    load_arbitrary(&bytes);
}

/// Returns the names without duplicates, which a component must not have.
fn names(all: &[Name]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in all.iter().map(|name| name.text()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn component(imports: &[String], exports: &[String], described: &Described) -> Vec<u8> {
    let nested = described.nested.as_ref().map(|(imports, exports)| plain(&names(imports), &names(exports)));
    let mut component = Component::new();
    let add_nested = |component: &mut Component| {
        if let Some(nested) = &nested {
            component.section(&NestedComponentSection(nested));
        }
    };
    if described.nested_is_first {
        add_nested(&mut component);
    }
    sections(&mut component, imports, exports);
    if !described.nested_is_first {
        add_nested(&mut component);
    }
    component.finish()
}

fn plain(imports: &[String], exports: &[String]) -> Component {
    let mut component = Component::new();
    sections(&mut component, imports, exports);
    component
}

fn sections(component: &mut Component, imports: &[String], exports: &[String]) {
    let mut types = ComponentTypeSection::new();
    types.instance(&InstanceType::new());
    component.section(&types);
    let mut section = ComponentImportSection::new();
    for name in imports {
        section.import(name.as_str(), ComponentTypeRef::Instance(0));
    }
    component.section(&section);
    let mut instances = ComponentInstanceSection::new();
    instances.export_items(Vec::<(&str, ComponentExportKind, u32)>::new());
    component.section(&instances);
    let own = imports.len().try_into().expect("few imports");
    let mut section = ComponentExportSection::new();
    for name in exports {
        section.export(name.as_str(), ComponentExportKind::Instance, own, None);
    }
    component.section(&section);
}

/// Returns a manifest with the selected kinds of grants.
fn manifest(granted: [bool; 6]) -> Manifest {
    let [http, kubernetes, packages, objects, processes, keyvalue] = granted;
    let text = format!(
        "id = 'x'\n[grants]\nhttp = {}\nkubernetes = {}\npackages = {packages}\nobjects = {}\nkeyvalue = {}\n[grants.processes]\n{}",
        if http { "['address']" } else { "[]" },
        if kubernetes { "[{ group = '', resources = ['pods'], verbs = ['get'] }]" } else { "[]" },
        if objects { "['ray']" } else { "[]" },
        if keyvalue { "['state']" } else { "[]" },
        if processes { "ray = [['start']]" } else { "" },
    );
    Manifest::parse(&text, Path::new("x.toml")).expect("a manifest")
}

/// Loads an undamaged file and checks the result against its description.
fn load_built(bytes: Vec<u8>, imports: &[String], exports: &[String], described: &Described) {
    let path = Path::new("x.wasm");
    let is_other = |name: &String| {
        name.starts_with("dagster-ray:")
            && name.split_once('@').is_some_and(|(_, version)| !version.starts_with("0.1."))
    };
    let is_backend = |name: &String| {
        let interface = name.strip_prefix("dagster-ray:backend/").and_then(|name| name.split_once('@'));
        interface.is_some_and(|(interface, _)| {
            ["describe", "launcher", "executor", "cluster", "pipes", "reconciler", "io"].contains(&interface)
        })
    };
    match introspect::read(path, &bytes) {
        Ok(read) => {
            assert_eq!((read.imports.as_slice(), read.exports.as_slice()), (imports, exports));
            assert!(!imports.iter().chain(exports).any(is_other));
            let interfaces = exports
                .iter()
                .filter(|&name| is_backend(name))
                .map(|name| name.split(['/', '@']).nth(1).expect("an interface"));
            assert!(interfaces.clone().count() > 0);
            let found: Vec<_> = read.interfaces.iter().map(|interface| interface.name()).collect();
            assert!(interfaces.clone().all(|interface| found.contains(&interface)));
            assert!(found.iter().all(|found| interfaces.clone().any(|interface| interface == *found)));
        }
        Err(LoadError::Contract { found, .. }) => assert!(is_other(&found)),
        Err(LoadError::NoBackend { .. }) => assert!(!exports.iter().any(is_backend)),
        Err(other) => panic!("{other}: {imports:?} {exports:?}"),
    }

    let manifest = manifest(described.granted);
    let pinned = described.pinned.map(|right| {
        let digest = match check_bytes(path, bytes.clone(), all_grants(), &Restriction::default(), Some("0"))
        {
            Err(LoadError::Digest { found, .. }) => found,
            other => panic!("a wrong digest was accepted: {other:?}"),
        };
        if right { digest.to_uppercase() } else { format!("0{}", &digest[..63]) }
    });
    match check_bytes(path, bytes.clone(), manifest.clone(), &Restriction::default(), pinned.as_deref()) {
        // Missing functions of an interface are reported last, after the digest and the imports.
        Ok(_) | Err(LoadError::ContractMismatch { .. }) => {
            assert_ne!(described.pinned, Some(false));
            assert!(
                imports.iter().all(|name| required_grant(name, &manifest.grants) == RequiredGrant::Satisfied)
            );
            let [http, kubernetes, packages, objects, processes, keyvalue] = described.granted;
            for (interface, granted) in [
                ("wasi:http/", http || kubernetes),
                ("dagster-ray:host/packages", packages),
                ("dagster-ray:host/objects", objects),
                ("dagster-ray:host/processes", processes),
                ("wasi:keyvalue/", keyvalue),
            ] {
                assert!(granted || !imports.iter().any(|name| name.starts_with(interface)), "{interface}");
            }
            assert!(!imports.iter().any(|name| name.starts_with("other:")));
        }
        Err(LoadError::Digest { .. }) => assert_eq!(described.pinned, Some(false)),
        Err(LoadError::MissingGrant { import, .. }) => {
            assert!(matches!(required_grant(&import, &manifest.grants), RequiredGrant::Missing(_)));
            assert_ne!(
                required_grant(&import, &all_grants().grants),
                RequiredGrant::Unknown,
                "a grant for this import exists"
            );
        }
        Err(LoadError::UnknownImport { import, .. }) => {
            assert_eq!(required_grant(&import, &all_grants().grants), RequiredGrant::Unknown)
        }
        Err(_) => {}
    }
}

fn all_grants() -> Manifest {
    manifest([true; 6])
}

/// Loads an arbitrary file: an error names the file, and a file that loads requires no grants.
fn load_arbitrary(bytes: &[u8]) {
    let manifest = manifest([false; 6]);
    let grants = manifest.grants.clone();
    match check_bytes(Path::new("x.wasm"), bytes.to_vec(), manifest, &Restriction::default(), None) {
        Ok(checked) => {
            assert!(!checked.introspection.interfaces.is_empty());
            assert!(
                checked
                    .introspection
                    .imports
                    .iter()
                    .all(|name| required_grant(name, &grants) == RequiredGrant::Satisfied)
            );
        }
        Err(error) => assert!(error.to_string().contains("x.wasm"), "{error}"),
    }
}
