//! The patterns of `.gitignore`, `.rayignore` and `excludes`, with Ray's semantics.
//!
//! Ray differs from Git: a pattern `*` in a directory excludes the directory itself. The hash of a package
//! depends on it, so this module matches as Ray does.
//!
//! A pattern is compiled to a sequence of parts. Matching tracks all possible positions in the path at once
//! instead of backtracking, so that no pattern takes exponential time.

/// A part of a compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// This character.
    Literal(char),
    /// Any character except a slash.
    One,
    /// Any number of characters except slashes.
    Some,
    /// A whole, non-empty name.
    Name,
    /// A character of a set, or one that is not in it if negated.
    Set { negated: bool, ranges: Vec<(char, char)> },
    /// Any non-empty text.
    Everything,
    /// Any number of leading directories.
    Ancestors,
    /// Any number of directories in between.
    Between,
    /// A slash and any text.
    Below,
    /// Nothing, or a slash and any text.
    OrBelow,
}

#[derive(Clone, Debug)]
struct Pattern {
    excludes: bool,
    parts: Vec<Part>,
}

/// The patterns of one file or list. The last one that matches decides.
#[derive(Clone, Debug, Default)]
pub(super) struct Patterns(Vec<Pattern>);

impl Patterns {
    /// Parses patterns, one per line.
    pub(super) fn new<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        Self(lines.into_iter().filter_map(parse).collect())
    }

    /// Returns whether a path is excluded. It is relative to the directory of the patterns, which itself
    /// is `.`.
    pub(super) fn excludes(&self, path: &str) -> bool {
        let path: Vec<char> = path.chars().collect();
        self.0
            .iter()
            .rev()
            .find(|pattern| matches(&pattern.parts, &path))
            .is_some_and(|pattern| pattern.excludes)
    }
}

fn parse(line: &str) -> Option<Pattern> {
    let line = line.trim();
    if line.is_empty() || line == "/" || line.starts_with('#') {
        return None;
    }
    let (excludes, line) = match line.strip_prefix('!') {
        Some(rest) => (false, rest),
        None => (true, line),
    };
    let line = line.strip_prefix('\\').unwrap_or(line);

    let mut names: Vec<&str> = line.split('/').collect();
    if names[0].is_empty() && names.len() > 1 {
        names.remove(0);
    } else if names.len() == 1 || (names.len() == 2 && names[1].is_empty()) {
        // A pattern without a leading or inner slash matches at any depth.
        if names[0] != "**" {
            names.insert(0, "**");
        }
    }
    let last = names.len() - 1;
    if last > 0 && names[last].is_empty() {
        names[last] = "**";
    }

    let mut parts = Vec::new();
    let mut slash = false;
    for (index, name) in names.iter().enumerate() {
        if *name == "**" {
            match index {
                0 if index == last => parts.push(Part::Everything),
                0 => {
                    parts.push(Part::Ancestors);
                    slash = false;
                }
                _ if index == last => parts.push(Part::Below),
                _ => {
                    parts.push(Part::Between);
                    slash = true;
                }
            }
            continue;
        }
        if slash {
            parts.push(Part::Literal('/'));
        }
        slash = true;
        if *name == "*" {
            parts.push(Part::Name);
        } else {
            glob(name, &mut parts);
            if index == last && excludes {
                parts.push(Part::OrBelow);
            }
        }
    }
    Some(Pattern { excludes, parts })
}

fn glob(name: &str, parts: &mut Vec<Part>) {
    let name: Vec<char> = name.chars().collect();
    let mut at = 0;
    while at < name.len() {
        let c = name[at];
        at += 1;
        match c {
            '\\' => {
                if let Some(&escaped) = name.get(at) {
                    parts.push(Part::Literal(escaped));
                    at += 1;
                }
            }
            '*' => parts.push(Part::Some),
            '?' => parts.push(Part::One),
            '[' => match set(&name[at..]) {
                Some((part, length)) => {
                    parts.push(part);
                    at += length;
                }
                None => parts.push(Part::Literal('[')),
            },
            other => parts.push(Part::Literal(other)),
        }
    }
}

/// Parses a set up to its closing bracket, and returns it with its length. A closing bracket in first
/// position is a member.
fn set(rest: &[char]) -> Option<(Part, usize)> {
    let negated = rest.first() == Some(&'!');
    let start = usize::from(negated);
    let search = start + usize::from(rest.get(start) == Some(&']'));
    let end = search + rest.get(search..)?.iter().position(|&c| c == ']')?;

    let mut ranges = Vec::new();
    let mut at = start;
    while at < end {
        if at + 2 < end && rest[at + 1] == '-' {
            ranges.push((rest[at], rest[at + 2]));
            at += 3;
        } else {
            ranges.push((rest[at], rest[at]));
            at += 1;
        }
    }
    Some((Part::Set { negated, ranges }, end + 1))
}

fn matches(parts: &[Part], path: &[char]) -> bool {
    let end = path.len();
    let mut here = vec![false; end + 1];
    here[0] = true;
    for part in parts {
        let mut next = vec![false; end + 1];
        for at in (0..=end).filter(|&at| here[at]) {
            let c = path.get(at).copied();
            let is_slash = c == Some('/');
            // The end of the name at this position.
            let name_end = || (at..end).find(|&i| path[i] == '/').unwrap_or(end);
            match part {
                Part::Literal(literal) if c == Some(*literal) => next[at + 1] = true,
                Part::One if c.is_some() && !is_slash => next[at + 1] = true,
                Part::Set { negated, ranges }
                    if c.is_some_and(|c| {
                        ranges.iter().any(|&(low, high)| low <= c && c <= high) != *negated
                    }) =>
                {
                    next[at + 1] = true;
                }
                Part::Literal(_) | Part::One | Part::Set { .. } => {}
                Part::Some => next[at..=name_end()].fill(true),
                Part::Name => {
                    let stop = name_end();
                    if stop > at {
                        next[at + 1..=stop].fill(true);
                    }
                }
                Part::Everything => next[(at + 1).min(end + 1)..].fill(true),
                Part::Ancestors => {
                    next[at] = true;
                    for after in (at + 2)..=end {
                        next[after] |= path[after - 1] == '/';
                    }
                }
                Part::Between => {
                    next[at] = true;
                    if is_slash {
                        next[(at + 2).min(end + 1)..].fill(true);
                    }
                }
                Part::Below if is_slash => next[at + 1..].fill(true),
                Part::Below => {}
                Part::OrBelow => {
                    next[at] = true;
                    if is_slash {
                        next[at + 1..].fill(true);
                    }
                }
            }
        }
        here = next;
    }
    here[end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_patterns_and_paths_do_not_panic(pattern in "[a*?!\\[\\]/\\\\.\\-]{0,12}", path in "[a/.\\]b]{1,12}") {
            Patterns::new([pattern.as_str()]).excludes(&path);
        }
    }

    /// The table has one digit per path: 1 if Ray 2.60 excludes it. A negated pattern follows a `*`.
    #[test]
    fn patterns_exclude_the_same_paths_as_ray() {
        let paths = [
            ".", "a", "b", "a/b", "a/x/b", "x/a", "x/a/y", "ab", "a1", "foo", "foo/x", "foo/x/y", "x/foo",
            "#x", "!a", "]", "xb", "abc", "axbxc", "a.py", "d/a.py", ".x", "a*b", "a//b", "^", "x[", "\\]",
            "a]", "a/a/b/b",
        ];
        let table = [
            ("*", "11111111111111111111111111111"),
            ("**", "11111111111111111111111111111"),
            (".*", "10000000000000000000010000000"),
            ("*.py", "00000000000000000001100000000"),
            ("/a", "01011000000000000000000100001"),
            ("a/", "00011010000000000000000100001"),
            ("/a/", "00011000000000000000000100001"),
            ("a/b", "00010000000000000000000000000"),
            ("a/**", "00011000000000000000000100001"),
            ("**/b", "00111000000000000000000100001"),
            ("a/**/b", "00011000000000000000000000001"),
            ("**/a/", "00011010000000000000000100001"),
            ("!a", "10111011111111111111111111111"),
            ("\\!a", "00000000000000100000000000000"),
            ("\\#x", "00000000000001000000000000000"),
            ("[!a]b", "00000000000000001000000100000"),
            ("[]x]", "00001110001110010000000000000"),
            ("a?b", "00000000000000000000001000000"),
            ("a*b*c", "00000000000000000110000000000"),
            ("[a-c]1", "00000000100000000000000000000"),
            ("foo/*", "00000000001000000000000000000"),
            ("*/foo", "00000000000010000000000000000"),
            ("**/", "00000000000000000000000100000"),
            ("x[", "00000000000000000000000001000"),
            ("a/**/", "00011000000000000000000100001"),
            ("/", "00000000000000000000000000000"),
            ("//", "00000000000000000000000000000"),
            ("a//b", "00000000000000000000000100000"),
            ("***", "11111111111111111111111111111"),
            ("a**b", "00000001000000000000001000000"),
            ("**/**", "00000000000000000000000100000"),
            ("!/a", "10111111111111111111111111111"),
            ("[^a]", "01011110000000000000000110001"),
            ("a\\*b", "00000000000000000000001000000"),
            ("[a\\]]", "00000000000000000000000000110"),
            ("/**", "11111111111111111111111111111"),
            ("/*", "11100001110001111111011011110"),
        ];
        for (pattern, expected) in table {
            let before = if pattern.starts_with('!') { "*" } else { "zzz" };
            let patterns = Patterns::new([before, pattern]);
            let got: String =
                paths.iter().map(|path| if patterns.excludes(path) { '1' } else { '0' }).collect();
            assert_eq!(got, expected, "{pattern} over {paths:?}");
        }
    }
}
