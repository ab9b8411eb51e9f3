//! The command line of a job: a shell reads the original argv back.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dagster_ray_sdk::{Error, model::WorkerCommand};
use dagster_ray_submission::entrypoint::{PAYLOAD_VARIABLE, command_line, payload};

use crate::structured::{read, structured};

#[derive(Debug)]
struct Input {
    argv: Vec<String>,
    payload: Option<String>,
}

structured!(Input { argv; payload });

/// Checks the properties for one input. Panics if one is violated.
pub fn check(data: &[u8]) {
    let Some(input) = read::<Input>(data) else { return };
    let command = WorkerCommand { argv: input.argv.clone(), payload: input.payload.clone(), env: Vec::new() };
    let variable = payload(&command);
    let carried = variable.map(|(name, text)| {
        assert_eq!(name, PAYLOAD_VARIABLE);
        String::from_utf8(STANDARD.decode(text).expect("base64")).expect("text")
    });
    assert_eq!(carried, input.payload);

    let impossible = input.argv.is_empty() || input.argv.iter().any(|word| word.contains('\0'));
    match command_line(&command) {
        Err(Error::InvalidConfig(_)) => assert!(impossible),
        Err(other) => panic!("{other:?}"),
        Ok(line) => {
            assert!(!impossible);
            // The only text that the shell may expand.
            let payload_argument = format!(" \"$(printf %s \"${PAYLOAD_VARIABLE}\" | base64 -d)\"");
            let plain = match &input.payload {
                Some(_) => line.strip_suffix(&payload_argument).expect("the payload goes last"),
                None => &line,
            };
            let (exec, arguments) = plain.split_once(' ').expect("exec and a program");
            assert_eq!(exec, "exec");
            assert_eq!(words(arguments), input.argv, "{line}");
        }
    }
}

/// Splits a line into words as a POSIX shell does. Panics on anything that the shell would act on.
///
/// Follows "Quoting" and "Token Recognition" of the Shell Command Language (POSIX.1-2024, 2.2 and 2.3).
/// Operators, expansions, patterns and comments panic.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some('\'') => break,
                        Some(other) => word.push(other),
                        None => panic!("a single quote is open: {line}"),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some('"') => break,
                        Some('\\') => match characters.next() {
                            Some(escaped @ ('$' | '`' | '"' | '\\')) => word.push(escaped),
                            Some('\n') => {}
                            Some(other) => word.extend(['\\', other]),
                            None => panic!("a double quote is open: {line}"),
                        },
                        Some('$' | '`' | '!') => panic!("the shell would expand: {line}"),
                        Some(other) => word.push(other),
                        None => panic!("a double quote is open: {line}"),
                    }
                }
            }
            '\\' => match characters.next() {
                Some('\n') => {}
                Some(other) => word.get_or_insert_default().push(other),
                None => panic!("a backslash escapes nothing: {line}"),
            },
            '~' | '#' if word.is_none() => panic!("the shell would act on {character}: {line}"),
            '\n' | '\t' | '|' | '&' | ';' | '<' | '>' | '(' | ')' | '$' | '`' | '*' | '?' | '[' | '{'
            | '}' | '!' => panic!("the shell would act on {character:?}: {line}"),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}
