//! Two grants of a program, from small sets of words: what both allow together is what each of them allows, for
//! arguments and for environment variables.

use arbitrary::Arbitrary;
use dagster_ray_policy::capability::processes::ProgramGrant;

use crate::structured::{read, structured};

const WORDS: [&str; 8] = [
    "start",
    "--head",
    "--port=<number>",
    "<number>",
    "--port=8265",
    "12",
    "",
    "--port=123456789012345678901",
];
const VARIABLES: [&str; 4] = ["LANG", "LD_PRELOAD", "*", "lang"];

#[derive(Debug, Clone, Copy)]
struct Index(u8);

impl<'a> Arbitrary<'a> for Index {
    fn arbitrary(source: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        source.arbitrary().map(Self)
    }
}

impl Index {
    fn of<const N: usize>(self, all: &[&str; N]) -> String {
        all[usize::from(self.0) % N].to_owned()
    }
}

#[derive(Debug)]
struct GrantText {
    prefix: Vec<Vec<Index>>,
    exact: Vec<Vec<Index>>,
    env: Vec<Index>,
}

structured!(GrantText { prefix, exact; env });

#[derive(Debug)]
struct Input {
    left: GrantText,
    right: GrantText,
    arguments: Vec<Index>,
}

structured!(Input { left, right; arguments });

impl GrantText {
    /// Returns the grant as the manifest's parser reads it.
    fn parsed(&self) -> ProgramGrant {
        let lists = |lists: &[Vec<Index>]| -> Vec<_> { lists.iter().map(|list| words(list)).collect() };
        let env: Vec<_> = self.env.iter().map(|name| name.of(&VARIABLES)).collect();
        let table =
            serde_json::json!({ "prefix": lists(&self.prefix), "exact": lists(&self.exact), "env": env });
        serde_json::from_value(table).expect("a valid table")
    }
}

fn words(list: &[Index]) -> Vec<String> {
    list.iter().map(|word| word.of(&WORDS)).collect()
}

/// Checks the properties for one input. Panics if one is violated.
pub fn check(data: &[u8]) {
    let Some(input) = read::<Input>(data) else { return };
    let (left, right) = (input.left.parsed(), input.right.parsed());
    let both = left.intersection(&right);
    let lists = |grant: &GrantText| [grant.prefix.clone(), grant.exact.clone()].concat();
    let listed = lists(&input.left).into_iter().chain(lists(&input.right)).map(|list| words(&list));
    for arguments in listed.chain([words(&input.arguments)]) {
        // A number may stand for `<number>`, and more words may follow.
        let numbers = arguments.iter().map(|word| word.replace("<number>", "7")).collect();
        let longer = arguments.iter().cloned().chain(["12".to_owned()]).collect();
        for arguments in [arguments, numbers, longer] {
            let each = left.allows_arguments(&arguments) && right.allows_arguments(&arguments);
            assert_eq!(both.allows_arguments(&arguments), each, "{left:?} {right:?} {arguments:?}");
        }
    }
    for name in VARIABLES {
        let each = left.allows_variable(name) && right.allows_variable(name);
        assert_eq!(both.allows_variable(name), each, "{left:?} {right:?} {name}");
    }
}
