"""A test runs every block of README.md and of the pages in `docs`, and what they name exists."""

import json
import re
import shlex
import subprocess
from importlib import import_module
from pathlib import Path

import follow_page
import pytest
from component_files import BUILT_IN
from dagster_ray._native import file_schema
from dagster_ray.configs import RayExecutorConfig, RayLauncherConfig
from dagster_ray.default_namespace import NAMESPACE_VARIABLE
from document_blocks import ROOT, blocks, page, page_block, pages, readme, unclaimed
from packaging.requirements import Requirement
from unrun_blocks import UNRUN

# The folders with the sources of error texts.
_SOURCES = ("components", "host/policy/src", "host/runtime/src", "host/registry/src")
_PYTHON = "host/python/dagster_ray"


def test_every_block_of_the_pages_is_run_by_a_test() -> None:
    # The decorators in these modules record the blocks that are run.
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        if "document_blocks" in file.read_text() and file.stem != Path(__file__).stem:
            import_module(file.stem)
    unused = unclaimed()
    assert not unused - UNRUN.keys(), (
        f"no test runs {', '.join(sorted(unused - UNRUN.keys()))}: claim it with `page`, or give "
        "the reason in unrun_blocks.py"
    )
    assert not UNRUN.keys() - unused, f"unrun_blocks.py: {sorted(UNRUN.keys() - unused)} are run"


def test_blocks_are_identified_by_heading_language_and_number() -> None:
    document = "# A\n```python\n# no heading\n```\n## B c\n```yaml\na: 1\n```\n```yaml\n```\n"
    found = [(block.key, block.text.strip()) for block in blocks(document)]
    assert found == [("A: python 1", "# no heading"), ("B c: yaml 1", "a: 1"), ("B c: yaml 2", "")]
    with pytest.raises(ValueError, match="has no closing fence"):
        list(blocks("# A\n```python\n"))


MIGRATED = page_block("docs/migration.md", "Migration from `dagster-ray`", "diff")


def test_the_install_commands_name_existing_extras() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    project = tomllib.loads((ROOT / "host/python/pyproject.toml").read_text())["project"]
    texts = [file.read_text() for file in pages().values()]
    lines = [
        line for text in texts for line in re.findall(r"^pip install (.*)$", text, re.MULTILINE)
    ]
    words = [word for line in lines for word in shlex.split(line, comments=True)]
    words += [line[1:] for line in MIGRATED.splitlines() if line.startswith("+")]
    found = [Requirement(word) for word in words if word.startswith("dagster-ray")]
    assert len(found) >= 3
    for requirement in found:
        assert requirement.name == project["name"]
        assert requirement.extras <= project["optional-dependencies"].keys(), requirement


@page("docs/migration.md", "Namespace", "")
def test_the_printed_variable_sets_the_default_namespace(printed: str) -> None:
    assert printed.strip() == f"{NAMESPACE_VARIABLE}=default"


@readme("From source", "shell")
def test_the_xtask_commands_exist(printed: str) -> None:
    programs = sorted((ROOT / "target").glob("*/xtask"), key=lambda file: file.stat().st_mtime)
    if not programs:
        pytest.skip("cargo xtask is not built")
    # Continuous integration runs this command.
    assert "cargo xtask test" in (ROOT / ".ci/run").read_text()
    assert re.search(r"^cargo xtask test\s", printed, re.MULTILINE)
    for line in printed.splitlines():
        words = shlex.split(line, comments=True)
        assert words[:2] == ["cargo", "xtask"], line
        described = subprocess.run(
            [programs[-1], *words[2:], "--help"], capture_output=True, text=True
        )
        assert described.returncode == 0, described.stderr


def test_the_reference_lists_all_fields_of_launcher_and_executor() -> None:
    text = (ROOT / "docs/reference/configuration.md").read_text()
    _, _, rest = text.partition("\nFields: ")
    listed = re.findall(r"`([a-z_0-9]+)`", rest.partition(";")[0])
    assert sorted(listed) == sorted(RayLauncherConfig.model_fields)
    assert set(listed) <= set(RayExecutorConfig.model_fields)


def test_the_reference_lists_all_exceptions() -> None:
    from dagster_ray import errors

    text = (ROOT / "docs/reference/errors.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    # The base classes are described in the text before and after the table.
    assert sorted(listed) == sorted(set(errors.__all__) - {"DagsterRayError", "ComponentError"})


def test_the_texts_of_errors_in_the_troubleshooting_page_are_those_of_the_code() -> None:
    """`…` stands for what differs. Each other part of a text is in one source file."""
    page_text = (ROOT / "docs/troubleshooting.md").read_text()
    printed = re.findall(r"^\*\*`+ ?(.*?) ?`+\*\*$", page_text, re.MULTILINE)
    assert len(printed) > 30
    sources = [*_sources("**/*.rs", *_SOURCES), *_sources("**/*.py", _PYTHON)]
    missing = [text for text in printed if not any(_contains(source, text) for source in sources)]
    assert not missing, f"no source file has the texts {missing}"


def _sources(pattern: str, *folders: str) -> list[str]:
    """Returns the text of source files. String literals that span lines are joined."""
    files = [file for folder in folders for file in sorted((ROOT / folder).glob(pattern))]
    joined = [re.sub(r"\\\n\s*|\"\s*\n\s*f?\"", "", file.read_text()) for file in files]
    return [text.replace('\\"', '"') for text in joined]


def _contains(source: str, text: str) -> bool:
    parts = [part.strip(" .;:,()") for part in text.split("…")]
    return all(part in source for part in parts)


def test_the_reference_of_the_policy_lists_all_of_its_tables_and_lists() -> None:
    sections = json.loads(file_schema("policy"))["properties"]
    lists = {*sections["launch"]["properties"], *sections["code"]["properties"]}
    assert "addresses" in lists
    text = (ROOT / "docs/reference/policy.md").read_text()
    assert [name for name in lists if f"`{name}`" not in text] == []


def test_every_built_in_backend_is_a_feature() -> None:
    text = (ROOT / "docs/features.md").read_text()
    # The others are no backends that a configuration names, or one for tests.
    others = {"files", "object-store", "simulated"}
    names = {file.stem for file in BUILT_IN.glob("*.wasm")} - others
    assert names and all(f"`{name}`" in text for name in names)


PAGE = """# x
```shell
false
```
## Begin

```shell
pip install 'dagster-ray-wasm[a,b]' pytest
```
Write `folder/jobs.py`:

```python
print("n is", 7)
```
and run it:
```shell
python folder/jobs.py
```
```text
n … 7
```
## Next
```shell
false
```
"""


def test_a_page_is_followed_below_one_heading_only(tmp_path: Path) -> None:
    found = list(follow_page.steps(PAGE, "Begin"))
    assert follow_page.requirements(found) == ["dagster-ray-wasm[a,b]", "pytest"]
    assert "n is 7" in follow_page.follow(PAGE, tmp_path, "Begin")
    assert (tmp_path / "folder/jobs.py").read_text() == 'print("n is", 7)\n'


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (("n … 7", "n … 8"), "not printed: 'n … 8'"),
        (("folder/jobs.py\n", "no.py\n"), "exit code 2"),
    ],
)
def test_a_page_that_shows_something_else_or_fails_is_an_error(
    changed: tuple[str, str], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match=re.escape(problem)):
        follow_page.follow(PAGE.replace(*changed), tmp_path, "Begin")
