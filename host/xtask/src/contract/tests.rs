use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;

use super::clients::{STARTED, calls};
use super::types::FIELDS;
use super::*;

const MODEL: &str = "
package dagster-ray:host@0.1.0;
interface model {
    type json = string;
    type attributes = list<tuple<string, string>>;
    variant error { other(string) }
    /// A job.
    record job-ref {
        submission-id: string,
        /// Its page.
        dashboard-url: option<string>,
    }
}
interface reports { resource listener { progress: func(message: string); } }
interface objects { resource value { } }
";

const BACKEND: &str = "
package dagster-ray:backend@0.1.0;
/// Runs jobs.
interface runner {
    use dagster-ray:host/model@0.1.0.{json, attributes, error, job-ref};
    use dagster-ray:host/reports@0.1.0.{listener};
    use dagster-ray:host/objects@0.1.0.{value};

    /// The state of a job.
    enum state {
        /// It has not ended.
        still-running,
        ended,
    }
    /// A job to run.
    record job-spec {
        image: option<string>,
        tags: attributes,
    }
    /// Selects jobs.
    variant selection {
        everything,
        /// Those with these names.
        named(list<string>),
    }
    /// Starts a job.
    ///
    /// A second paragraph.
    launch-one: func(spec: job-spec, timeout-ms: u64, listener: borrow<listener>) -> result<job-ref, error>;
    /// Starts jobs.
    launch-all: func(specs: list<job-spec>) -> result<list<result<job-ref, error>>, error>;
    /// Lists jobs.
    %list: func(selection: selection, %from: option<string>) -> result<list<tuple<job-ref, state>>, error>;
    /// Ends a job.
    end: func(job: job-ref) -> result<_, error>;
    /// Stores the result of a job.
    save: func(job: job-ref, value: borrow<value>, options: json) -> result<u32, error>;
    /// Loads the results of jobs.
    load-many: func(jobs: list<job-ref>) -> result<list<tuple<string, value>>, error>;
}
";

const TYPES: &str = r#"

Json = str

Attributes = list[list[str]]


class JobRef(TypedDict):
    """A job."""

    submission_id: str
    dashboard_url: str | None
    """Its page."""


State = Literal[
    # It has not ended.
    "still-running",
    "ended",
]
"""The state of a job."""


class JobSpec(TypedDict):
    """A job to run."""

    image: NotRequired[str | None]
    tags: Attributes


class SelectionNamed(TypedDict):
    """Those with these names."""

    named: list[str]


Selection = Literal["everything"] | SelectionNamed
"""Selects jobs."""
"#;

const CLIENTS: &str = r#"

class RunnerClient(Generic[ValueT]):
    """Runs jobs."""

    def __init__(self, caller: ValueCaller[ValueT]) -> None:
        self._caller = caller

    def launch_one(
        self, spec: JobSpec, timeout_ms: int, **call_options: Unpack[ListenerOptions]
    ) -> JobRef:
        """Starts a job."""
        answer = self._caller.call(
            "runner.launch-one", {"spec": spec, "timeout_ms": timeout_ms}, **call_options
        )
        return cast(JobRef, answer)

    def launch_all(
        self, specs: Sequence[JobSpec], **call_options: Unpack[CallOptions]
    ) -> list[JobRef | Exception]:
        """Starts jobs."""
        answer = self._caller.call("runner.launch-all", {"specs": specs}, **call_options)
        return cast(list[JobRef | Exception], answer)

    def list_(
        self, selection: Selection, from_: str | None = None, **call_options: Unpack[CallOptions]
    ) -> list[list[JobRef | State]]:
        """Lists jobs."""
        answer = self._caller.call(
            "runner.list", {"selection": selection, "from": from_}, **call_options
        )
        return cast(list[list[JobRef | State]], answer)

    def end(self, job: JobRef, **call_options: Unpack[CallOptions]) -> None:
        """Ends a job."""
        self._caller.call("runner.end", {"job": job}, **call_options)

    def save(
        self, job: JobRef, value: ValueT, options: Json, **call_options: Unpack[CallOptions]
    ) -> int:
        """Stores the result of a job."""
        answer, _ = self._caller.call_with_values(
            "runner.save", {"job": job, "value": 0, "options": options}, [value], **call_options
        )
        return cast(int, answer)

    def load_many(
        self, jobs: Sequence[JobRef], **call_options: Unpack[CallOptions]
    ) -> list[tuple[str, ValueT]]:
        """Loads the results of jobs."""
        answer, values = self._caller.call_with_values(
            "runner.load-many", {"jobs": jobs}, [], **call_options
        )
        names = cast(dict[str, list[str]], answer)["partitions"]
        return list(zip(names, values, strict=True))
"#;

fn snippet(model: &str, backend: &str) -> Result<String> {
    let wit = tempfile::tempdir()?;
    fs::create_dir(wit.path().join("deps"))?;
    fs::write(wit.path().join("deps/model.wit"), model)?;
    fs::write(wit.path().join("runner.wit"), backend)?;
    Contract::read(wit.path())?.python()
}

/// The repository's folder `wit`.
fn wit() -> PathBuf {
    root().join("wit")
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The error of a contract in which a part of the snippet is replaced.
fn error(part: &str, replacement: &str) -> String {
    assert!(BACKEND.contains(part), "{part}");
    format!("{:#}", snippet(MODEL, &BACKEND.replace(part, replacement)).unwrap_err())
}

#[test]
fn types_and_clients_describe_the_json_of_the_host() {
    let text = snippet(MODEL, BACKEND).unwrap();
    let generated = text.strip_prefix(HEADER).unwrap();
    assert_eq!(generated, format!("{TYPES}{CLIENTS}"));
}

#[test]
fn the_committed_module_agrees_with_the_contract() {
    compare(&root().join("host/python/dagster_ray/contract.py"), &generate(&wit()).unwrap()).unwrap();
}

#[test]
fn a_stale_module_is_reported_with_its_line_and_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("contract.py");
    for (found, line) in [("a\nc\n", 2), ("a\n", 2), ("a\nb\nc\n", 3), ("a\nb", 3)] {
        fs::write(&file, found).unwrap();
        let error = compare(&file, "a\nb\n").unwrap_err().to_string();
        assert!(error.contains(&format!("contract.py:{line} ")), "{error}");
        assert!(error.contains("Run `cargo xtask wit python`"), "{error}");
    }
    fs::write(&file, "a\nb\n").unwrap();
    compare(&file, "a\nb\n").unwrap();
}

/// `exports.json` has valid arguments of each export: the tests in `tests/sandbox` pass them to the host.
#[test]
fn each_export_is_called_with_the_argument_names_that_the_host_expects() {
    let text = fs::read_to_string(root().join("tests/sandbox/exports.json")).unwrap();
    let expected: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_str(&text).unwrap();
    let contract = Contract::read(&wit()).unwrap();
    let types = Types::collect(&contract).unwrap();
    let generated: BTreeMap<_, BTreeSet<_>> = contract
        .interfaces()
        .flat_map(|(name, id)| calls(&types, name, id).unwrap())
        .map(|call| (call.export, call.arguments.into_iter().map(|argument| argument.key).collect()))
        .collect();
    let expected: BTreeMap<_, BTreeSet<_>> =
        expected.into_iter().map(|(export, arguments)| (export, arguments.into_keys().collect())).collect();
    assert_eq!(generated, expected);
    for export in STARTED {
        assert!(generated.contains_key(export), "{export} is started, but the contract has no such function");
    }
}

#[test]
fn fields_with_a_form_of_their_own_exist_in_the_contract() {
    let text = generate(&wit()).unwrap();
    for (path, annotation) in FIELDS {
        let field = path.rsplit('.').next().unwrap();
        assert!(text.contains(&format!("    {field}: {annotation}\n")), "{path}");
    }
}

#[test]
fn types_without_json_are_rejected_with_their_place() {
    let message = error("image: option<string>", "image: result<string>");
    assert_eq!(message, "the type `job-spec`: a result has no form in JSON");
    let message = error("timeout-ms: u64", "value-of: option<borrow<value>>");
    assert!(message.starts_with("the function `runner.launch-one`: the parameter `value-of`"), "{message}");
}

#[test]
fn names_that_python_cannot_use_are_rejected() {
    assert!(error("image: option", "%from: option").contains("the field `from`"));
    assert!(error("timeout-ms: u64", "call-options: u64").contains("`call_options`"));
}

#[test]
fn types_of_the_same_name_are_rejected() {
    let other = "interface other { record job-spec { name: string } run: func(spec: job-spec); }";
    let message = format!("{:#}", snippet(MODEL, &format!("{BACKEND}{other}")).unwrap_err());
    assert!(message.contains("both define `JobSpec`"), "{message}");
    let own = "interface other { record caller { name: string } run: func(by: caller); }";
    let message = format!("{:#}", snippet(MODEL, &format!("{BACKEND}{own}")).unwrap_err());
    assert!(message.contains("itself defines `Caller`"), "{message}");
}
