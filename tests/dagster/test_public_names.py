"""The public names of `dagster-ray` 0.4.8 are alike here, or `docs/migration.md` says why not."""

import json
import re
from pathlib import Path

from public_names.compare import differences

LIST = Path(__file__).with_name("public_names") / "dagster_ray_0_4_8.json"
MIGRATION = Path(__file__).parents[2] / "docs" / "migration.md"
_ROW = re.compile(r"^\| `(?P<name>[\w.]+)` \| (?P<here>.+) \| (?P<reason>.+) \|$", re.M)


def rows() -> dict[str, re.Match[str]]:
    """Returns the rows of the table of names, by name."""
    text = MIGRATION.read_text(encoding="utf-8")
    section = text.split("\n## Names that differ\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    found = [_ROW.match(line) for line in lines]
    assert None not in found, [line for line, one in zip(lines, found, strict=True) if not one]
    return {match["name"]: match for match in found if match}


def covers(row: str, path: str) -> bool:
    """Returns whether a row of the table is about a name."""
    return path == row or path.startswith(f"{row}.")


def test_each_public_name_is_alike_or_in_the_migration_table() -> None:
    explained = rows()
    unexplained = [
        f"{path}: {problem}"
        for path, problem in differences(json.loads(LIST.read_text(encoding="utf-8")))
        if not any(covers(row, path) for row in explained)
    ]
    assert not unexplained, "\n".join(unexplained)


def test_each_row_of_the_migration_table_names_a_difference() -> None:
    paths = [path for path, _ in differences(json.loads(LIST.read_text(encoding="utf-8")))]
    stale = [row for row in rows() if not any(covers(row, path) for path in paths)]
    assert not stale, f"these names are alike, so they need no row: {stale}"


def test_the_list_has_the_names_that_a_user_of_0_4_8_imports() -> None:
    listed = json.loads(LIST.read_text(encoding="utf-8"))
    assert {"LocalRay", "RayRunLauncher", "ray_executor"} <= set(listed["dagster_ray"])
    assert listed["dagster_ray.kuberay.configs"]["TLSOptions"]["fields"]["enabled"] == {
        "default": None
    }
    wait = listed["dagster_ray.kuberay.client.rayjob.client"]["RayJobClient"]["members"]
    assert [one["name"] for one in wait["wait_until_running"]["parameters"]][2:4] == [
        "timeout",
        "poll_interval",
    ]


def test_a_name_that_is_missing_or_has_another_default_is_a_difference() -> None:
    parameter = {"name": "timeout", "kind": "positional_or_keyword", "default": 1}
    changed = {
        "dagster_ray.configs": {
            "Missing": {"kind": "constant", "value": 1},
            "USER_DEFINED_RAY_KEY": {"kind": "constant", "value": "other"},
            "Lifecycle": {"kind": "class", "fields": {"wait": {"default": False}, "more": {}}},
        },
        "dagster_ray.kuberay.client.raycluster.client": {
            "RayClusterClient": {
                "kind": "class",
                "bases": ["dagster_ray.configs.Lifecycle"],
                "members": {
                    "wait_until_ready": {"kind": "method", "parameters": [parameter]},
                    "client": {"kind": "method", "parameters": []},
                },
            }
        },
        "dagster_ray.missing": {"Name": {"kind": "class"}},
    }
    client = "kuberay.client.raycluster.client.RayClusterClient"
    assert {path for path, _ in differences(changed)} == {
        "configs.Missing",
        "configs.USER_DEFINED_RAY_KEY",
        "configs.Lifecycle.wait",
        "configs.Lifecycle.more",
        client,
        f"{client}.wait_until_ready.timeout",
        f"{client}.wait_until_ready.name",
        f"{client}.wait_until_ready.namespace",
        f"{client}.client",
        "missing",
    }
