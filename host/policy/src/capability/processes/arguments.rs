//! Lists of arguments in a grant: what they allow, and what two of them allow together.

/// The end of a word that stands for decimal digits.
const NUMBER: &str = "<number>";
/// The maximum number of digits that `<number>` stands for, enough for 64 bits.
const MAX_DIGITS: usize = 20;

/// Whether further arguments may follow a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Prefix,
    Exact,
}

/// Returns whether a list of a grant allows these arguments.
pub(super) fn allows(list: &[String], form: Form, arguments: &[String]) -> bool {
    let has_length = match form {
        Form::Prefix => arguments.len() >= list.len(),
        Form::Exact => arguments.len() == list.len(),
    };
    has_length && list.iter().zip(arguments).all(|(word, argument)| allows_word(word, argument))
}

/// Returns the list that allows what both lists allow, with its form, or none if no arguments suit both.
pub(super) fn intersection(
    (left, left_form): (&[String], Form),
    (right, right_form): (&[String], Form),
) -> Option<(Vec<String>, Form)> {
    let (longer, shorter, shorter_form) = match left.len() >= right.len() {
        true => (left, right, right_form),
        false => (right, left, left_form),
    };
    if longer.len() > shorter.len() && shorter_form == Form::Exact {
        return None;
    }
    let mut words: Vec<String> =
        longer.iter().zip(shorter).map(|(left, right)| common_word(left, right)).collect::<Option<_>>()?;
    words.extend(longer.iter().skip(shorter.len()).cloned());
    let is_exact = left_form == Form::Exact || right_form == Form::Exact;
    Some((words, if is_exact { Form::Exact } else { Form::Prefix }))
}

fn allows_word(word: &str, argument: &str) -> bool {
    match word.strip_suffix(NUMBER) {
        None => word == argument,
        Some(start) => argument.strip_prefix(start).is_some_and(|digits| {
            (1..=MAX_DIGITS).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
        }),
    }
}

/// Returns the word that allows what both words allow.
fn common_word(left: &str, right: &str) -> Option<String> {
    if left == right || allows_word(right, left) {
        return Some(left.to_owned());
    }
    allows_word(left, right).then(|| right.to_owned())
}

#[cfg(test)]
mod tests {
    use super::Form::{Exact, Prefix};
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn an_exact_list_allows_no_further_arguments_and_a_prefix_does() {
        for (form, allowed) in [(Prefix, true), (Exact, false)] {
            assert!(allows(&words("start --head"), form, &words("start --head")));
            assert_eq!(allows(&words("start --head"), form, &words("start --head --more")), allowed);
            assert!(!allows(&words("start --head"), form, &words("start")));
        }
    }

    #[test]
    fn a_number_stands_for_digits_only() {
        let port = |argument: &str| allows(&words("--port=<number>"), Exact, &[argument.to_owned()]);
        assert!(port("--port=0") && port("--port=65535"));
        for argument in ["--port=", "--port=-1", "--port=1 2", "--port=1x", "--port=<number>", "8265"] {
            assert!(!port(argument), "{argument}");
        }
        assert!(!port(&format!("--port={}", "9".repeat(21))));
    }

    #[test]
    fn an_intersection_allows_exactly_what_both_lists_allow() {
        let lists = ["", "a", "a b", "a <number>", "a <number> c", "a 1", "b"];
        let all: Vec<_> =
            lists.iter().flat_map(|list| [(words(list), Prefix), (words(list), Exact)]).collect();
        let tried = ["", "a", "a b", "a 1", "a 22", "a 1 c", "a 1 d", "a b c", "b", "b 1"].map(words);
        for (left, left_form) in &all {
            for (right, right_form) in &all {
                let both = intersection((left, *left_form), (right, *right_form));
                for arguments in &tried {
                    let expected =
                        allows(left, *left_form, arguments) && allows(right, *right_form, arguments);
                    let found = both.as_ref().is_some_and(|(list, form)| allows(list, *form, arguments));
                    assert_eq!(
                        found, expected,
                        "{left:?} {left_form:?} {right:?} {right_form:?} {arguments:?}"
                    );
                }
            }
        }
    }
}
