//! Finds files that import each other in a circle, inside a Rust crate or inside the Python package.
//!
//! An import between a module and a module inside it is no circle: a parent declares its children.
//! Imports for type checkers alone and modules of tests are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::files;
use crate::project::Project;

/// The names of modules from the root of a crate or package, such as `["cluster", "wait"]`.
type Module = Vec<String>;
/// Which modules each module imports.
type Imports = BTreeMap<Module, BTreeSet<Module>>;

/// Fails with each circle, and the files in it.
pub(crate) fn check(project: &Project) -> Result<()> {
    let mut found = Vec::new();
    for area in ["components", "host", "tests"] {
        for entry in fs::read_dir(project.root().join(area))? {
            let folder = entry?.path();
            let source = folder.join("src");
            if source.is_dir() {
                collect(&source, "rs", rust_imports, &mut found)?;
            }
        }
    }
    let package = project.python_source().join("dagster_ray");
    collect(&package, "py", python_imports, &mut found)?;
    if found.is_empty() {
        return Ok(());
    }
    bail!("files import each other; move what they share into a file of its own:\n{}", found.join("\n"))
}

/// Adds the circles of the files below a folder.
fn collect(
    folder: &Path,
    ending: &str,
    imports: fn(&str, &Module) -> BTreeSet<Module>,
    found: &mut Vec<String>,
) -> Result<()> {
    let mut paths = Vec::new();
    files::below(folder, &mut paths)?;
    let mut sources = BTreeMap::new();
    for path in paths {
        if path.extension().is_some_and(|found| found == ending) {
            let module = module_name(path.strip_prefix(folder)?);
            if module.last().is_some_and(|name| name == "tests") {
                continue;
            }
            let text =
                fs::read_to_string(&path).with_context(|| format!("{} could not be read", path.display()))?;
            sources.insert(module, text);
        }
    }
    let graph = resolve(&sources, imports);
    for circle in circles(&graph) {
        let names: Vec<String> = circle.iter().map(|module| module.join("/")).collect();
        found.push(format!("  {}: {}", folder.display(), names.join(", ")));
    }
    Ok(())
}

/// Returns a file's module: `cluster/mod.rs` and `cluster.rs` are both `cluster`.
fn module_name(path: &Path) -> Module {
    let mut names: Module =
        path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if names.last().is_some_and(|name| ["mod", "lib", "main", "__init__"].contains(&name.as_str())) {
        names.pop();
    }
    names
}

/// Returns the graph of imports between the given files, without those of parents and children.
fn resolve(sources: &BTreeMap<Module, String>, imports: fn(&str, &Module) -> BTreeSet<Module>) -> Imports {
    let mut graph = Imports::new();
    for (module, text) in sources {
        let edges = graph.entry(module.clone()).or_default();
        for mut path in imports(text, module) {
            while !path.is_empty() && !sources.contains_key(&path) {
                path.pop();
            }
            if !path.starts_with(module) && !module.starts_with(&path) {
                edges.insert(path);
            }
        }
    }
    graph
}

/// Returns the paths from the crate's root that a Rust file names.
fn rust_imports(text: &str, module: &Module) -> BTreeSet<Module> {
    let text: String = text
        .lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join(" ");
    let tokens = tokens(&text);
    let mut found = BTreeSet::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let follows_path = at > 0 && tokens.get(at - 1).is_some_and(|before| *before == "::");
        let mut base = match *token {
            "crate" if !follows_path => Vec::new(),
            "super" if !follows_path => {
                let mut base = module.clone();
                base.pop();
                base
            }
            _ => {
                at += 1;
                continue;
            }
        };
        at += 1;
        while tokens.get(at) == Some(&"::") && tokens.get(at + 1) == Some(&"super") {
            base.pop();
            at += 2;
        }
        tree(&tokens, &mut at, &base, &mut found);
    }
    found
}

/// Reads what follows a path, `::a::{b, c::d}`, and adds each full path.
fn tree(tokens: &[&str], at: &mut usize, base: &Module, found: &mut BTreeSet<Module>) {
    let mut path = base.clone();
    while tokens.get(*at) == Some(&"::") {
        *at += 1;
        match tokens.get(*at) {
            Some(&"{") => {
                *at += 1;
                while let Some(token) = tokens.get(*at).filter(|token| **token != "}") {
                    if is_name(token) {
                        let mut inner = path.clone();
                        inner.push((*token).to_owned());
                        *at += 1;
                        tree(tokens, at, &inner, found);
                    } else {
                        *at += 1;
                    }
                }
                *at += 1;
                return;
            }
            Some(name) if is_name(name) => {
                path.push((*name).to_owned());
                *at += 1;
            }
            _ => break,
        }
    }
    found.insert(path);
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Splits a text into names, `::` and other characters.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if is_name(rest) {
            rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after.trim_start();
    }
    tokens
}

/// Returns the modules of the package that a Python file imports when it runs.
fn python_imports(text: &str, _: &Module) -> BTreeSet<Module> {
    const PACKAGE: &str = "dagster_ray";
    let mut found = BTreeSet::new();
    let mut for_types = false;
    for line in text.lines() {
        if !line.starts_with(char::is_whitespace) && !line.is_empty() {
            for_types = line.starts_with("if TYPE_CHECKING");
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let (module, names) = match words.as_slice() {
            ["from", module, "import", names @ ..] => (*module, names),
            ["import", module, ..] => (*module, [].as_slice()),
            _ => continue,
        };
        let path: Module = module.split('.').map(str::to_owned).collect();
        let Some((PACKAGE, inner)) = path.split_first().map(|(first, inner)| (first.as_str(), inner)) else {
            continue;
        };
        if for_types {
            continue;
        }
        found.insert(inner.to_vec());
        for name in names {
            let name = name.trim_matches(['(', ')', ',']);
            found.insert(inner.iter().cloned().chain([name.to_owned()]).collect());
        }
    }
    found
}

/// Returns the groups of modules from each of which every other of the group is reached.
fn circles(graph: &Imports) -> Vec<BTreeSet<Module>> {
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        graph.keys().map(|module| (module, reachable(graph, module))).collect();
    let mut groups: Vec<BTreeSet<Module>> = Vec::new();
    for (module, forward) in &reached {
        let group: BTreeSet<Module> = forward
            .iter()
            .filter(|other| reached.get(**other).is_some_and(|back| back.contains(module)))
            .map(|other| (*other).clone())
            .collect();
        if !group.is_empty() && !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

/// Returns the modules that a chain of imports leads to, which includes the module itself in a circle.
fn reachable<'a>(graph: &'a Imports, from: &Module) -> BTreeSet<&'a Module> {
    let mut found = BTreeSet::new();
    let mut next: Vec<&Module> = graph.get(from).into_iter().flatten().collect();
    while let Some(module) = next.pop() {
        if found.insert(module) {
            next.extend(graph.get(module).into_iter().flatten());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(
        files: &[(&str, &str)],
        imports: fn(&str, &Module) -> BTreeSet<Module>,
    ) -> Vec<BTreeSet<Module>> {
        let sources = files.iter().map(|(path, text)| (module_name(Path::new(path)), (*text).to_owned()));
        circles(&resolve(&sources.collect(), imports))
    }

    #[test]
    fn rust_files_that_import_each_other_are_a_circle() {
        let circle = found(
            &[
                ("lib.rs", "mod a; mod b; mod c;"),
                ("a.rs", "use crate::{b::X, c::{self}};"),
                ("b.rs", "fn f() { super::c::g(); }"),
                ("c/mod.rs", "mod d;"),
                ("c/d.rs", "use super::super::a::Y; use crate::c;"),
                ("c/e.rs", "// use crate::a;\n#[cfg(test)]\nmod tests { use crate::a; }"),
            ],
            rust_imports,
        );
        assert!(circle.is_empty(), "{circle:?}");
        let circle = found(
            &[
                ("a.rs", "use crate::{b::X};"),
                ("b.rs", "fn f() { crate::c::g() }"),
                ("c.rs", "use super::a;"),
            ],
            rust_imports,
        );
        assert_eq!(circle.len(), 1);
        assert_eq!(circle.first().map(BTreeSet::len), Some(3));
    }

    #[test]
    fn python_files_that_import_each_other_at_run_time_are_a_circle() {
        let types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from dagster_ray.a import A\n";
        let importing = "from dagster_ray import b\n";
        assert!(found(&[("a.py", importing), ("b.py", types)], python_imports).is_empty());
        let lazy = "def f():\n    from dagster_ray.a import (\n        A,\n    )\n";
        assert_eq!(found(&[("a.py", importing), ("b.py", lazy)], python_imports).len(), 1);
    }
}
