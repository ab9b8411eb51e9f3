"""Files that a runtime environment names, and the variables of Ray's job client."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster_ray import PipesRayJobClient
from dagster_ray.environment_files import with_environment_files
from dagster_ray.errors import InvalidConfigError, PermissionDeniedError
from dagster_ray.pipes import SubmitJobParams
from dagster_ray.ray_variables import job_headers
from fault_proxy import FaultProxy
from pipes_script import Write, run_script
from ray_head import RayHead
from wheel_files import write_wheel

REQUIREMENTS = "# a comment\npolars>=1.0 ; python_version > '3'\n\n-r other.txt\npolars>=1.0\n"
CONDA = "name: own\ndependencies:\n  - python=3.12\n  - pip: [polars]\n"


# Ray reads the authentication mode of the head when its library is loaded.
@pytest.mark.usefixtures("ray_head")
@pytest.mark.parametrize("field", ["pip", "uv"])
def test_files_are_read_as_by_rays_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    from ray.runtime_env import RuntimeEnv

    (tmp_path / "requirements.txt").write_text(REQUIREMENTS)
    monkeypatch.chdir(tmp_path)
    for path in ("requirements.txt", str(tmp_path / "requirements.txt")):
        env = {field: path, "env_vars": {"A": "b"}}
        found: Any = with_environment_files(env)
        assert found[field][0] == "# a comment" and found["env_vars"] == {"A": "b"}
        assert RuntimeEnv(**found) == RuntimeEnv(**env)
        assert env[field] == path, "the argument is not modified"


@pytest.mark.usefixtures("ray_head")
def test_a_conda_file_is_read_and_the_name_of_an_environment_is_not(tmp_path: Path) -> None:
    from ray.runtime_env import RuntimeEnv

    file = tmp_path / "env.yml"
    file.write_text(CONDA)
    found: Any = with_environment_files({"conda": str(file)})
    assert found["conda"]["dependencies"][1] == {"pip": ["polars"]}
    assert RuntimeEnv(**found) == RuntimeEnv(conda=str(file))
    for env in ({"conda": "pytorch"}, {"pip": ["a"]}, {"pip": {"packages": ["a"]}}, {}, None):
        assert with_environment_files(env) == env


@pytest.mark.parametrize("field", ["pip", "uv", "conda"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, field: str) -> None:
    missing = str(tmp_path / "missing.yml")
    with pytest.raises(InvalidConfigError, match="No such file") as refused:
        with_environment_files({field: missing})
    assert missing in str(refused.value)
    assert refused.value.fields and refused.value.fields[0]["path"] == f"runtime_env.{field}"


def test_a_conda_file_that_is_no_environment_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "env.yaml"
    for text in ("- a list", "a: [b"):
        file.write_text(text)
        with pytest.raises(InvalidConfigError, match=r"runtime_env\.conda"):
            with_environment_files({"conda": str(file)})


def test_code_reads_only_files_that_the_policy_allows(
    home: Callable[[dict], dg.DagsterInstance], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DAGSTER_RAY_POLICY")
    instance = home({})
    Path(instance.root_directory, "dagster-ray.toml").write_text(
        f"[code]\ndirectories = ['{tmp_path}/code']"
    )
    client = PipesRayJobClient(address="http://127.0.0.1:9")
    for env in ({"pip": "/etc/passwd"}, {"conda": f"{tmp_path}/code/../env.yml"}):
        params: SubmitJobParams = {"entrypoint": "true", "runtime_env": env}
        with pytest.raises(PermissionDeniedError, match="directories"):
            run_script(client, dict(params), instance=instance)


@pytest.mark.timeout(300)
def test_a_script_gets_the_packages_of_a_file(
    ray_head: RayHead, script: Write, tmp_path: Path
) -> None:
    modules = {"installed_from_a_file.py": "VALUE = 42\n"}
    wheel = write_wheel(ray_head.root / "own", "installed_from_a_file", modules)
    file = tmp_path / "requirements.txt"
    file.write_text(f"# our own\n{wheel}\n")
    body = """
        from dagster_pipes import open_dagster_pipes
        import installed_from_a_file

        with open_dagster_pipes() as context:
            context.report_custom_message(installed_from_a_file.VALUE)
    """
    # The interpreter of the runtime environment.
    entrypoint = script(body).replace(sys.executable, "python")
    params = {"entrypoint": entrypoint, "runtime_env": {"pip": str(file)}}
    client = PipesRayJobClient(address=ray_head.url)
    assert run_script(client, params)[1] == [42]


@pytest.mark.timeout(120)
def test_rays_variables_choose_which_files_are_uploaded(
    ray_head: RayHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code"
    for folder in ("venv", "data"):
        (code / folder).mkdir(parents=True)
        (code / folder / "rows.txt").touch()
    (code / ".gitignore").write_text("*.log\n")
    (code / "a.log").touch()
    (code / "lists.py").write_text(
        "from pathlib import Path\n"
        "from dagster_pipes import open_dagster_pipes\n"
        "with open_dagster_pipes() as context:\n"
        "    names = sorted(str(file) for file in Path().rglob('*') if file.is_file())\n"
        "    context.report_custom_message(names)\n"
    )
    params = {"entrypoint": "python lists.py", "runtime_env": {"working_dir": str(code)}}

    def uploaded(**settings: object) -> list[str]:
        client = PipesRayJobClient(address=ray_head.url, backend_config=settings or None)
        [names] = run_script(client, params)[1]
        return names

    assert uploaded() == [".gitignore", "data/rows.txt", "lists.py"]
    monkeypatch.setenv("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "1")
    monkeypatch.setenv("RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES", "data, .git")
    assert uploaded() == [".gitignore", "a.log", "lists.py", "venv/rows.txt"]
    # The configuration takes precedence.
    assert "a.log" not in uploaded(gitignore=True)


def test_rays_variable_adds_headers_unless_the_configuration_has_some(
    proxy: FaultProxy, script: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_JOB_HEADERS", json.dumps({"X-Team": "models"}))
    params = {"entrypoint": script("print('hello')")}
    run_script(PipesRayJobClient(address=proxy.url), params)
    assert {request.headers.get("x-team") for request in proxy.requests} == {"models"}
    proxy.reset()
    run_script(PipesRayJobClient(address=proxy.url, headers={"X-Own": "1"}), params)
    [sent] = {(one.headers.get("x-team"), one.headers.get("x-own")) for one in proxy.requests}
    assert sent == (None, "1")


def test_an_invalid_variable_with_headers_is_named_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for text in ("not JSON: secret", '["secret"]', '{"Authorization": {"secret": 1}}'):
        monkeypatch.setenv("RAY_JOB_HEADERS", text)
        with pytest.raises(InvalidConfigError, match="RAY_JOB_HEADERS") as refused:
            job_headers(None)
        assert "secret" not in str(refused.value)
    assert job_headers({}) == {}
