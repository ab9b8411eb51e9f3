"""The clients of `dagster_ray.contract` return what their annotations declare. Needs no Ray."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from component_files import BUILT_IN
from dagster_ray import contract
from dagster_ray.backend import Backend, listener
from dagster_ray.component_files import native
from dagster_ray.configs import BackendConfig
from dagster_ray.contract import Write
from dagster_ray.errors import InvalidConfigError
from dagster_ray.io.directory_store import DirectoryStore
from dagster_ray.io.frames import Frames, pack, unpack
from dagster_ray.testing import SimulatedRay
from pydantic import TypeAdapter
from run_spec import RUN

STEP: contract.StepSpec = {**RUN, "step_key": "s"}


class ValueCalls:
    """Calls the component `files`."""

    def __init__(self, directory: Path) -> None:
        self._component = native().Component(
            str(BUILT_IN / "files.wasm"),
            settings={},
            authorities=[],
            programs={},
            directories=[],
            stores={"directory": DirectoryStore(str(directory))},
        )

    def call(
        self, export: str, arguments: Mapping[str, object], write: Write | None = None, **_: Any
    ) -> object:
        return self.call_with_values(export, arguments, [], write)[0]

    def call_with_values(
        self,
        export: str,
        arguments: Mapping[str, object],
        values: Sequence[Frames],
        write: Write | None = None,
        **_: Any,
    ) -> tuple[object, Sequence[Frames]]:
        call = self._component.start(
            export, json.dumps(arguments), listener(write), None, list(values)
        )
        return json.loads(call.result()), call.values()


def _check(answer: object, declared: Any) -> None:
    """Fails if an answer lacks a key of its declared type, or has another one."""
    assert TypeAdapter(declared).validate_python(answer, strict=True) == answer


@pytest.mark.parametrize("name", sorted(file.stem for file in BUILT_IN.glob("*.wasm")))
def test_descriptions_have_the_declared_type(name: str) -> None:
    config = BackendConfig(backend=str(BUILT_IN / f"{name}.wasm"), address="http://127.0.0.1:9")
    description = contract.DescribeClient(Backend(config)).describe()
    _check(description, contract.Description)
    assert description["name"] == name


def test_launched_runs_have_the_declared_types(simulated_ray: SimulatedRay) -> None:
    launcher = contract.LauncherClient(Backend(BackendConfig()))
    planned = launcher.plan(RUN)
    _check(planned, contract.RunPlacement)
    assert planned != "local"
    launched = launcher.launch(RUN)
    _check(launched, contract.RunRef)
    assert launched["job"]["submission_id"] == planned["job"]["job"]["submission_id"]
    _check(launcher.check([launched], timeout=60.0), list[contract.JobStatus])
    _check(launcher.terminate(launched), contract.Termination)
    # The name of the termination has two words.
    assert launcher.terminate(launched) == "already-ended"
    assert launcher.debug_info(launched)
    assert launcher.plan({**RUN, "options": '{"enabled": false}'}) == "local"


def test_executed_steps_have_the_declared_types(simulated_ray: SimulatedRay) -> None:
    executor = contract.ExecutorClient(Backend(BackendConfig()))
    wrong: contract.StepSpec = {**STEP, "options": "not JSON"}
    local: contract.StepSpec = {**STEP, "options": json.dumps({"enabled": False})}
    planned, refused, beside = executor.plan([STEP, wrong, local])
    _check(planned, contract.Placement)
    assert isinstance(refused, InvalidConfigError) and beside == "local"
    [launched] = executor.start_launch([STEP]).result(60.0)
    _check(launched, contract.Placement)
    assert not isinstance(launched, Exception) and launched != "local" and "job" in launched
    assert not isinstance(planned, Exception) and planned != "local" and "job" in planned
    step = launched["job"]
    assert step["job"]["submission_id"] == planned["job"]["job"]["submission_id"]
    _check(executor.check([step]), list[contract.JobStatus])
    _check(executor.terminate([step]), list[contract.JobStatus])
    assert executor.finish("r", "{}", [[["a", "b"]]]) is None


def test_scripts_have_the_declared_types_and_report_their_output(
    simulated_ray: SimulatedRay,
) -> None:
    pipes = contract.PipesClient(Backend(BackendConfig()))
    script: contract.ScriptSpec = {
        "deployment": "d",
        "run_id": "r",
        "step_key": "s",
        "attempt": 0,
        "nonce": "n",
        "bootstrap": [],
        "labels": [["a", "b"]],
        "options": json.dumps({"entrypoint": "echo printed"}),
    }
    _check(pipes.plan(script), contract.JobRef)
    job = pipes.start_launch(script).result(60.0)
    _check(job, contract.JobRef)
    output: list[bytes] = []
    position, complete = None, False
    while not complete:
        followed = pipes.follow(job, position, output=lambda _, text: output.append(text))
        _check(followed, contract.Followed)
        position, complete = followed["position"], followed["complete"]
    assert b"printed" in b"".join(output)
    _check(pipes.wait(job), contract.JobStatus)
    _check(pipes.terminate(job), contract.JobStatus)


def test_clusters_have_the_declared_types(simulated_ray: SimulatedRay) -> None:
    clusters = contract.ClusterClient(Backend(BackendConfig(backend="kuberay")))
    owner: contract.Owner = {"deployment": "d", "run_id": "r", "holder": "h"}
    creation = clusters.create({"owner": owner, "labels": [["a", "b"]], "env": [], "options": "{}"})
    _check(creation, contract.Creation)
    assert "created" in creation
    cluster = creation["created"]
    _check(clusters.wait(cluster, 60_000), contract.EndpointSet)
    _check(clusters.endpoints(cluster), contract.EndpointSet)
    _check(clusters.get(cluster), contract.ClusterInfo)
    found = clusters.list_({"labels": []})
    _check(found, list[contract.ClusterInfo])
    assert [info["cluster"]["name"] for info in found] == [cluster["name"]]
    query: contract.Query = {"labels": []}
    expired = clusters.expired(
        {"deployment": "d", "query": query, "live_runs": [], "older_than_s": 0}
    )
    _check(expired, contract.Expirations)
    assert expired == {"expired": found, "not_owned": []}
    _check(clusters.delete(cluster), bool)


def test_stored_values_have_the_declared_types(tmp_path: Path) -> None:
    io: contract.IoClient[Frames] = contract.IoClient(ValueCalls(tmp_path))
    context: contract.IoContext = {"deployment": "d", "options": "{}"}
    asset: contract.Address = {
        "asset": ["a"],
        "partition": "p",
        "run_id": "r",
        "step_key": "s",
        "output_name": "o",
    }
    output: contract.Address = {"run_id": "r", "step_key": "s", "output_name": "o"}
    _check(io.save(asset, pack([1]), context), contract.Stored)
    stored = io.save(output, pack([2]), context)
    _check(stored, contract.Stored)
    assert unpack(io.load(output, context)) == [2]
    assert [(key, unpack(frames)) for key, frames in io.load_many([asset], context)] == [("p", [1])]
    _check(io.list_({"asset": ["a"]}, context), list[contract.Stored])
    assert io.list_({"runs": ["r"]}, context) == [stored]
    ended: contract.RunLife = {"run_id": "r", "state": "live"}
    assert io.list_({"expired": [ended]}, context) == []
    assert io.delete({"keys": [stored["key"]]}, context) == 1
