//! Moves the function names of a component into a file beside it.
//!
//! Function names are a fifth of a component's size and are used only to explain traps. The host reads them
//! from `<component>.names` when a trap occurs.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};

const HEADER: usize = 8;
const CUSTOM: u8 = 0;
/// The ids of component sections that contain another binary.
const MODULE: u8 = 1;
const NESTED_COMPONENT: u8 = 4;
/// Subsections of a name section (WebAssembly core specification, appendix "Name Section").
const MODULE_NAME: u8 = 0;
const FUNCTION_NAMES: u8 = 1;

/// Returns a smaller form of a core module.
pub(crate) type Optimize<'a> = &'a dyn Fn(&[u8]) -> Result<Vec<u8>>;

/// A component without its function names, and the names.
pub(crate) struct Split {
    /// The component without names.
    pub(crate) wasm: Vec<u8>,
    /// The core modules of the component that have names.
    modules: Vec<Module>,
}

struct Module {
    name: String,
    functions: Vec<(u32, String)>,
}

impl Split {
    /// Returns the text of the names file. `digest` is the sha256 of the component.
    pub(crate) fn names(&self, digest: &str) -> String {
        let mut text = format!("sha256 {digest}\n");
        for module in &self.modules {
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "module {}", line(&module.name));
            for (index, name) in &module.functions {
                let _ = writeln!(text, "{index} {}", line(&without_hash(name)));
            }
        }
        text
    }
}

/// Splits a component from its function names, after `optimize` has rewritten each of its core modules.
///
/// Each module keeps its own name, because the host finds the function names by the module's name.
pub(crate) fn split(component: &[u8], optimize: Optimize<'_>) -> Result<Split> {
    let mut modules = Vec::new();
    let wasm = binary(component, optimize, &mut modules).context("the component is malformed")?;
    let mut known: Vec<&str> = modules.iter().map(|module| module.name.as_str()).collect();
    known.sort_unstable();
    if let Some([twice, _]) = known.windows(2).find(|pair| pair[0] == pair[1]) {
        bail!(
            "two modules of the component are named `{twice}`; the names of their functions would be ambiguous"
        );
    }
    Ok(Split { wasm, modules })
}

/// Returns a module or a component without function names, and adds them to `modules`.
fn binary(bytes: &[u8], optimize: Optimize<'_>, modules: &mut Vec<Module>) -> Result<Vec<u8>> {
    let mut reader = Reader { bytes };
    let header = reader.take(HEADER)?;
    // The layer field: 0 for a module, 1 for a component.
    let is_component = header[6] == 1;
    let mut kept = header.to_vec();
    while !reader.bytes.is_empty() {
        let (id, content) = reader.section()?;
        if id == CUSTOM {
            let mut custom = Reader { bytes: content };
            match custom.text()? {
                "name" if !is_component => {
                    let short = names(custom, modules)?;
                    section(&mut kept, CUSTOM, &short);
                }
                "component-name" => {}
                _ => section(&mut kept, id, content),
            }
        } else if is_component && id == MODULE {
            section(&mut kept, id, &binary(&optimize(content)?, optimize, modules)?);
        } else if is_component && id == NESTED_COMPONENT {
            section(&mut kept, id, &binary(content, optimize, modules)?);
        } else {
            section(&mut kept, id, content);
        }
    }
    Ok(kept)
}

/// Adds a module's names to `modules`. Returns the content of a name section with only the module's name.
fn names(mut reader: Reader<'_>, modules: &mut Vec<Module>) -> Result<Vec<u8>> {
    let mut module = Module { name: String::new(), functions: Vec::new() };
    let mut short = Vec::new();
    text(&mut short, "name");
    while !reader.bytes.is_empty() {
        let (id, content) = reader.section()?;
        let mut part = Reader { bytes: content };
        match id {
            MODULE_NAME => {
                part.text()?.clone_into(&mut module.name);
                section(&mut short, MODULE_NAME, content);
            }
            FUNCTION_NAMES => {
                for _ in 0..part.number()? {
                    module.functions.push((part.number()?, part.text()?.to_owned()));
                }
            }
            _ => {}
        }
    }
    // The host could not find the function names of a module without a name.
    if !module.name.is_empty() {
        modules.push(module);
    }
    Ok(short)
}

/// Removes the hash from a mangled name of Rust (`17h`, 16 hexadecimal digits, `E`).
///
/// Demangled names do not show the hash, and it cannot be compressed: it is half of a compressed names file. It
/// stays after a function such as `head`, which `rustc_demangle` would take for a hash.
fn without_hash(name: &str) -> String {
    const DIGITS: usize = 16;
    let shortened = name.strip_suffix('E').and_then(|path| {
        let (path, hash) = path.split_at_checked(path.len().checked_sub(DIGITS)?)?;
        let is_hash = hash.bytes().all(|digit| digit.is_ascii_hexdigit());
        let path = path.strip_suffix("17h").filter(|path| is_hash && path.contains("_ZN"))?;
        let is_ambiguous = path.trim_end_matches(|last: char| last.is_ascii_hexdigit()).ends_with('h');
        (!is_ambiguous).then_some(path)
    });
    shortened.map_or_else(|| name.to_owned(), |path| format!("{path}E"))
}

/// Replaces line breaks, which separate the names in the file.
fn line(name: &str) -> String {
    name.replace(['\n', '\r'], " ")
}

fn section(to: &mut Vec<u8>, id: u8, content: &[u8]) {
    to.push(id);
    length(to, content.len());
    to.extend_from_slice(content);
}

fn text(to: &mut Vec<u8>, text: &str) {
    length(to, text.len());
    to.extend_from_slice(text.as_bytes());
}

/// Appends a number in unsigned LEB128.
fn length(to: &mut Vec<u8>, mut number: usize) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            to.push(low);
            return;
        }
        to.push(low | 0x80);
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count).context("the file is truncated")?;
        self.bytes = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u32> {
        let mut number = 0_u64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(number).context("a number exceeds 32 bits");
            }
        }
        bail!("a LEB128 number has more than 5 bytes")
    }

    fn section(&mut self) -> Result<(u8, &'a [u8])> {
        let id = self.byte()?;
        let size = self.number()?;
        Ok((id, self.take(usize::try_from(size)?)?))
    }

    fn text(&mut self) -> Result<&'a str> {
        let size = self.number()?;
        std::str::from_utf8(self.take(usize::try_from(size)?)?).context("a name is not UTF-8")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "these are tests")]

    use super::*;

    const EMPTY: &[u8] = b"\0asm\x01\0\0\0";
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    fn unchanged(component: &[u8]) -> Result<Split> {
        split(component, &|module| Ok(module.to_vec()))
    }

    fn custom(name: &str, content: &[u8]) -> Vec<u8> {
        let mut inner = Vec::new();
        text(&mut inner, name);
        inner.extend_from_slice(content);
        let mut whole = Vec::new();
        section(&mut whole, CUSTOM, &inner);
        whole
    }

    fn module(name: &str, functions: &[(u8, &str)]) -> Vec<u8> {
        let (mut parts, mut own, mut all) = (Vec::new(), Vec::new(), Vec::new());
        text(&mut own, name);
        section(&mut parts, MODULE_NAME, &own);
        length(&mut all, functions.len());
        for (index, name) in functions {
            all.push(*index);
            text(&mut all, name);
        }
        section(&mut parts, FUNCTION_NAMES, &all);
        // Names of data segments.
        section(&mut parts, 9, &[0]);
        [EMPTY, &custom("producers", b"x"), &custom("name", &parts)].concat()
    }

    fn component(modules: &[Vec<u8>]) -> Vec<u8> {
        let mut whole = COMPONENT.to_vec();
        for module in modules {
            section(&mut whole, 1, module);
        }
        [whole, custom("component-name", b"anything"), custom("producers", b"y")].concat()
    }

    #[test]
    fn split_removes_only_the_function_names() {
        let long = "f".repeat(300);
        let named = component(&[module("a.wasm", &[(0, "import"), (7, &long)]), EMPTY.to_vec()]);
        let split = unchanged(&named).unwrap();
        assert_eq!(split.names("d1"), format!("sha256 d1\nmodule a.wasm\n0 import\n7 {long}\n"));

        let mut own = Vec::new();
        text(&mut own, "a.wasm");
        let mut parts = Vec::new();
        section(&mut parts, MODULE_NAME, &own);
        let short = [EMPTY, &custom("producers", b"x"), &custom("name", &parts)].concat();
        let mut expected = COMPONENT.to_vec();
        section(&mut expected, 1, &short);
        section(&mut expected, 1, EMPTY);
        expected.extend(custom("producers", b"y"));
        assert_eq!(split.wasm, expected);
        assert_eq!(unchanged(&split.wasm).unwrap().wasm, expected);
    }

    #[test]
    fn the_names_file_has_no_hashes() {
        let mangled = "_ZN4core3fmt5Write9write_fmt17h09cd6e5f491d44b3E";
        let head = "_ZN1a4head17h09cd6e5f491d44b3E";
        let functions = [(0, mangled), (1, "17h09cd6e5f491d44b3E"), (2, "_ZN1a17hE"), (3, head)];
        let split = unchanged(&component(&[module("a", &functions)])).unwrap();
        let expected =
            format!("0 _ZN4core3fmt5Write9write_fmtE\n1 17h09cd6e5f491d44b3E\n2 _ZN1a17hE\n3 {head}\n");
        assert_eq!(split.names("d"), format!("sha256 d\nmodule a\n{expected}"));
    }

    #[test]
    fn a_truncated_component_or_duplicate_module_names_are_an_error() {
        let named = component(&[module("a", &[(1, "f")])]);
        assert!(unchanged(&named[..named.len() - 1]).is_err());
        let twice = component(&[module("a", &[]), module("a", &[])]);
        assert!(unchanged(&twice).err().unwrap().to_string().contains("`a`"));
    }
}
