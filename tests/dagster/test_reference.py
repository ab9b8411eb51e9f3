"""`dagster-ray explain` and `dagster-ray schema`: what is explained is what is accepted."""

import inspect
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest
from dagster_ray import RayRunLauncher, ray_executor
from dagster_ray.backend import Backend
from dagster_ray.configs import BackendConfig, RayExecutorConfig, RayLauncherConfig
from dagster_ray.contract import LauncherClient
from dagster_ray.errors import InvalidConfigError
from dagster_ray.kuberay import PipesKubeRayJobClient
from dagster_ray.pipes.client import PipesRayJobClient
from dagster_ray.reference import components
from dagster_ray.reference.keys import every, find, nearest
from dagster_ray.reference.topics import topics
from run_spec import RUN

TOPICS = topics()
# Fields of Dagster's own executors.
OF_DAGSTER = {"retries", "tag_concurrency_limits", "max_concurrent"}


def _explain(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dagster_ray", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def _properties(topic: str) -> Mapping[str, Any]:
    return TOPICS[topic]["properties"]


def test_every_key_has_a_description() -> None:
    without = [
        key.path
        for key in every(TOPICS)
        if not key.description
        and not key.schema.get("title")
        # Dagster's own executors have these keys, and do not describe what is below them.
        and not key.path.startswith(("executor.retries.", "executor.tag_concurrency_limits."))
    ]
    assert without == []


def test_the_launcher_and_the_executor_are_explained_field_by_field() -> None:
    assert _properties("launcher").keys() == {*RayLauncherConfig.model_fields, "ray"}
    own = {*RayExecutorConfig.model_fields, "ray"}
    assert own <= _properties("executor").keys() <= own | OF_DAGSTER
    assert _properties("launcher").keys() == RayRunLauncher.config_type().keys()
    assert ray_executor.config_schema is not None


@pytest.mark.parametrize(
    ("topic", "client"), [("pipes", PipesRayJobClient), ("kuberay_pipes", PipesKubeRayJobClient)]
)
def test_every_argument_of_a_client_is_explained(topic: str, client: type) -> None:
    parameters = set(inspect.signature(client).parameters)
    if "backend" in parameters and topic == "pipes":
        parameters = (parameters - {"backend"}) | BackendConfig.model_fields.keys()
    assert _properties(topic).keys() == parameters


@pytest.mark.parametrize("name", components.BACKENDS)
def test_a_backend_accepts_its_explained_options_and_no_others(name: str) -> None:
    config = BackendConfig(backend=name, address="http://127.0.0.1:1")
    launcher = LauncherClient(Backend(config, is_checked=True))
    settings = components.describe(name)["settings"]
    for key in _properties(name):
        if key in settings:
            continue
        # A value of a wrong type is reported, unless only KubeRay knows the type.
        try:
            launcher.plan({**RUN, "options": json.dumps({key: 0.5, "enabled": False})})
        except InvalidConfigError as error:
            assert "is not a known key" not in str(error), error
    with pytest.raises(InvalidConfigError) as raised:
        launcher.plan({**RUN, "options": json.dumps({"other": 1})})
    [field] = raised.value.fields or []
    hint = field["hint"] or ""
    explained = [key for key in _properties(name) if key not in settings]
    assert all(key in hint for key in explained), hint


def test_the_schemas_accept_configurations_that_are_accepted() -> None:
    for name, schema in TOPICS.items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema.get("description") or schema["title"], name
    launcher = jsonschema.Draft202012Validator(TOPICS["launcher"])
    assert launcher.is_valid({"address": "http://h:8265", "num_cpus": 1, "env_vars": ["A=1"]})
    assert launcher.is_valid({"ray": {"address": {"env": "ADDRESS"}}})
    assert not launcher.is_valid({"adress": "http://h:8265"})
    kuberay = jsonschema.Draft202012Validator(TOPICS["kuberay"])
    assert kuberay.is_valid({"cluster": "shared", "patience": {"check_seconds": 5}})
    assert not kuberay.is_valid({"cluster": "other"})
    assert not kuberay.is_valid({"patience": {"seconds": 5}})


def test_keys_are_found_in_every_topic_and_below_lists_mappings_and_references() -> None:
    for path in (
        "launcher.address",
        "executor.isolation",
        "kuberay.cluster_timeout_seconds",
        "kuberay.patience.check_seconds",
        "local.idle_seconds",
        "object-store.overwrite",
        "manifest.grants.http",
        "manifest.grants.kubernetes.verbs",
        "manifest.limits.memory_mib",
        "policy.launch.tag_fields",
        "kuberay_cluster.lifecycle.cleanup",
        "pipes.timeout",
    ):
        key = find(TOPICS, path)
        assert key is not None and key.description, path
    assert find(TOPICS, "launcher.adress") is None
    assert find(TOPICS, "policy.code.tag_fields") is None
    assert "launcher.address" in nearest(TOPICS, "launcher.adress")
    assert "executor.isolation" in nearest(TOPICS, "isolation")


def test_the_command_explains_a_key_as_text_and_as_json() -> None:
    done = _explain("explain", "launcher.address")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["key:", "launcher.address"]
    assert any(
        line.startswith("environment: RAY_API_SERVER_ADDRESS, RAY_ADDRESS") for line in lines
    )
    assert any(line.startswith("example:") and "http://ray-head:8265" in line for line in lines)

    done = _explain("--json", "explain", "manifest.limits.memory_mib")
    document = json.loads(done.stdout)
    assert (document["type"], document["default"], document["fields"]) == ("integer", 128, [])


def test_a_wrong_key_is_a_usage_error_with_similar_keys() -> None:
    done = _explain("explain", "executor.isolatoin")
    assert done.returncode == 2
    assert "executor.isolation" in done.stderr


def test_the_page_has_every_topic_and_is_one_table_each() -> None:
    done = _explain("explain", "--markdown")
    assert done.returncode == 0, done.stderr
    headings = [line[3:] for line in done.stdout.splitlines() if line.startswith("## ")]
    assert headings == list(TOPICS)
    for line in done.stdout.splitlines():
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") == 5, line


def test_the_command_prints_schemas_of_files_and_of_topics() -> None:
    for name in ("policy", "kuberay"):
        done = _explain("schema", name)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["properties"] == TOPICS[name]["properties"]
    assert _explain("schema", "other").returncode == 2
