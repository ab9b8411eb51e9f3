//! Names, doc strings and line breaks of Python code, in the form that `ruff format` writes.

use anyhow::{Result, ensure};

/// `line-length` in `host/python/pyproject.toml`.
const WIDTH: usize = 100;

const KEYWORDS: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def",
    "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is",
    "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];
/// Built-in names that the generated code uses. A method of that name would hide them in its class.
const BUILT_IN: [&str; 9] = ["bool", "dict", "float", "int", "list", "object", "str", "tuple", "zip"];

/// Converts a name of WIT to a JSON key or a name of a function or parameter: `run-id` to `run_id`.
pub(super) fn snake_case(name: &str) -> String {
    name.replace('-', "_")
}

/// Converts a name of WIT to the name of a class: `run-ref` to `RunRef`.
pub(super) fn class_name(name: &str) -> String {
    name.split('-')
        .map(|word| {
            let mut letters = word.chars();
            letters
                .next()
                .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
        })
        .collect()
}

/// Returns whether a name cannot be a name in Python.
pub(super) fn is_keyword(name: &str) -> bool {
    KEYWORDS.contains(&name)
}

/// Converts a name of WIT to the name of a method or parameter.
///
/// Keywords and built-in names get the suffix `_` (PEP 8).
pub(super) fn identifier(name: &str) -> String {
    let name = snake_case(name);
    if is_keyword(&name) || BUILT_IN.contains(&name.as_str()) { name + "_" } else { name }
}

fn fits(line: &str) -> bool {
    line.chars().count() <= WIDTH
}

/// Returns the lines of a bracketed list: on one line, indented on a second line, or one line per item.
pub(super) fn bracketed(indent: usize, head: &str, items: &[String], tail: &str) -> String {
    let (outer, inner) = (" ".repeat(indent), " ".repeat(indent + 4));
    let line = format!("{outer}{head}{}{tail}", items.join(", "));
    if fits(&line) {
        return line + "\n";
    }
    let second = format!("{inner}{}", items.join(", "));
    if fits(&second) {
        return format!("{outer}{head}\n{second}\n{outer}{tail}\n");
    }
    let lines: String = items.iter().map(|item| format!("{inner}{item},\n")).collect();
    format!("{outer}{head}\n{lines}{outer}{tail}\n")
}

/// Returns the definition of a union.
pub(super) fn union(name: &str, members: &[String]) -> String {
    let line = format!("{name} = {}", members.join(" | "));
    if fits(&line) {
        return line + "\n";
    }
    let second = format!("    {}", members.join(" | "));
    let body = if fits(&second) { second } else { format!("    {}", members.join("\n    | ")) };
    format!("{name} = (\n{body}\n)\n")
}

/// Returns a doc string: on one line, or a summary and the rest, separated by an empty line.
///
/// An empty text has none.
pub(super) fn doc_string(indent: usize, text: &str) -> Result<String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    ensure!(
        !text.contains('\\') && !text.contains("\"\"\"") && !text.ends_with('"'),
        "the comment cannot be a doc string: {text}"
    );
    let outer = " ".repeat(indent);
    let line = format!("{outer}\"\"\"{text}\"\"\"");
    if fits(&line) {
        return Ok(line + "\n");
    }
    let (summary, rest) =
        text.split_once(". ").map_or((text.to_owned(), ""), |(first, rest)| (format!("{first}."), rest));
    let mut lines = wrapped(indent, &format!("\"\"\"{summary}"));
    if !rest.is_empty() {
        lines.push('\n');
        lines.push_str(&wrapped(indent, rest));
    }
    Ok(format!("{lines}{outer}\"\"\"\n"))
}

/// Returns a comment. An empty text has none.
pub(super) fn comment(indent: usize, text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    wrapped(indent + 2, text)
        .lines()
        .map(|line| format!("{}# {}\n", " ".repeat(indent), line.trim_start()))
        .collect()
}

fn wrapped(indent: usize, text: &str) -> String {
    let mut lines = String::new();
    let mut line = " ".repeat(indent);
    for word in text.split(' ') {
        let is_empty = line.len() == indent;
        let longer = format!("{line}{}{word}", if is_empty { "" } else { " " });
        if fits(&longer) || is_empty {
            line = longer;
        } else {
            lines.push_str(&line);
            lines.push('\n');
            line = format!("{}{word}", " ".repeat(indent));
        }
    }
    lines + &line + "\n"
}

/// Returns the first paragraph of a comment, on one line.
pub(super) fn first_paragraph(docs: &wit_parser::Docs) -> String {
    let text = docs.contents.as_deref().unwrap_or_default().trim();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}
