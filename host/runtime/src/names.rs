//! Function names in a separate file, `<component>.names`, which is read only to explain a trap.
//!
//! The first line has the digest of the component, so that the names of another build are not used.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Maximum size of a names file, in bytes: several times the size for the largest component.
const MAX_BYTES: u64 = 16 << 20;

/// The names of a component's functions, by core module and function index.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Names(HashMap<String, HashMap<u32, String>>);

impl Names {
    /// Returns the mangled name of a function.
    pub(crate) fn function(&self, module: &str, index: u32) -> Option<&str> {
        self.0.get(module)?.get(&index).map(String::as_str)
    }

    fn parse(text: &str, digest: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()?.strip_prefix("sha256 ")? != digest {
            return None;
        }
        let mut names = HashMap::<String, HashMap<u32, String>>::new();
        let mut module = None;
        for line in lines {
            let (first, rest) = line.split_once(' ')?;
            if first == "module" {
                module = Some(names.entry(rest.to_owned()).or_default());
            } else {
                module.as_mut()?.insert(first.parse().ok()?, rest.to_owned());
            }
        }
        Some(Self(names))
    }
}

/// Reads the names of a component. Returns no names if the file is missing, malformed or belongs to
/// another component.
pub(crate) fn read_names(component: &Path, digest: &str) -> Names {
    let path = component.with_extension("names");
    let Some(text) = read(&path) else { return Names::default() };
    Names::parse(&text, digest).unwrap_or_else(|| {
        tracing::debug!(path = %path.display(), "names file ignored: malformed, or not of the component {digest}");
        Names::default()
    })
}

fn read(path: &Path) -> Option<String> {
    let file = File::open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return None;
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_by_module_and_index() {
        let names = Names::parse("sha256 d\nmodule a b\n0 f\n7 g h\nmodule c\n0 i\n", "d").unwrap();
        assert_eq!(names.function("a b", 0), Some("f"));
        assert_eq!(names.function("a b", 7), Some("g h"));
        assert_eq!(names.function("c", 0), Some("i"));
        assert_eq!(names.function("c", 7), None);
    }

    #[test]
    fn malformed_names_and_names_of_another_component_are_ignored() {
        for text in [
            "",
            "sha256 e\nmodule a\n0 f\n",
            "sha256 d\n0 f\n",
            "sha256 d\nmodule a\nx f\n",
            "sha256 d\nmodule\n",
        ] {
            assert_eq!(Names::parse(text, "d"), None, "{text:?}");
        }
        assert_eq!(read_names(Path::new("/nowhere/a.wasm"), "d"), Names::default());
    }
}
