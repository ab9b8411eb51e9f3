"""Configuration: accepted forms and the errors for invalid ones. Needs no Ray."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._config import process_config
from dagster_ray import RayRunLauncher
from dagster_ray.address import dashboard_url, known_address
from dagster_ray.backend import Backend
from dagster_ray.configs import BackendConfig, BackendKeywords, flatten
from dagster_ray.contract import JobRef, RunSpec
from dagster_ray.dashboard import dashboard_link
from dagster_ray.deployment import deployment_id
from dagster_ray.errors import InvalidConfigError
from dagster_ray.specs import local_directories, parse_tag, run_options, worker_spec


def _processed(config: dict) -> dict:
    result = process_config(dg.Shape(RayRunLauncher.config_type()), config)
    assert result.success, result.errors
    return dict(result.value or {})


def _run(tags: dict[str, str] | None = None) -> dg.DagsterRun:
    return dg.DagsterRun(job_name="job", run_id="r", tags=tags or {})


def _spec(options: dict, tags: dict[str, str] | None = None) -> tuple[RunSpec, set[str]]:
    tags = tags or {}
    return worker_spec(
        _run(),
        deployment="d",
        attempt=0,
        argv=["dagster"],
        payload=None,
        env={},
        tags=tags,
        override=parse_tag(tags),
        options=options,
    )


def test_flat_and_nested_configuration_are_equivalent() -> None:
    flat = flatten(_processed({"num_cpus": 1, "num_gpus": 0}))
    nested = flatten(_processed({"ray": {"num_cpus": 1, "num_gpus": 0}}))
    assert flat == nested == {"num_cpus": 1, "num_gpus": 0}


def test_a_field_in_both_flat_and_nested_form_is_refused() -> None:
    with pytest.raises(InvalidConfigError, match="num_cpus: given both"):
        flatten(_processed({"num_cpus": 1, "ray": {"num_cpus": 2}}))


@pytest.mark.parametrize("config", [{"num_cpu": 1}, {"ray": {"num_cpu": 1}}])
def test_the_error_for_an_unknown_key_lists_the_known_keys(config: dict) -> None:
    result = process_config(dg.Shape(RayRunLauncher.config_type()), config)
    [error] = result.errors or []
    assert '"num_cpu"' in error.message
    assert "num_cpus?" in error.message and "runtime_env?" in error.message


def test_the_error_for_an_unknown_backend_lists_the_choices() -> None:
    with pytest.raises(InvalidConfigError) as raised:
        RayRunLauncher(backend="exsiting")
    assert '"exsiting"' in str(raised.value)
    assert "existing" in str(raised.value) and "local" in str(raised.value)
    assert ".wasm" in str(raised.value)


def test_verify_must_be_a_boolean_or_a_path() -> None:
    with pytest.raises(InvalidConfigError, match="verify"):
        RayRunLauncher(verify=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("address", ["ftp://head:8265", "http://", "grpc://head:6379"])
def test_the_error_for_a_wrong_scheme_names_the_valid_schemes(address: str) -> None:
    with pytest.raises(InvalidConfigError, match=r"http\(s\)://host:8265"):
        dashboard_url(address, "address")


def _on(kind: str) -> str:
    return json.dumps({"kind": kind, "namespace": "n", "name": "c"})


@pytest.mark.parametrize(
    ("url", "is_link"),
    [
        ("https://head:8265/#/jobs/j", True),
        ("http://[fd00::1]:8265", True),
        ("javascript:alert(1)//http://head", False),
        ("JavaScript:alert(1)", False),
        ("\x01java\nscript:alert(1)", False),
        ("data:text/html,x", False),
        ("//head/", False),
        ("http:", False),
        ("http://[", False),
        ("", False),
        (None, False),
    ],
)
def test_only_http_urls_become_links_to_the_dashboard(url: str | None, is_link: bool) -> None:
    link = dashboard_link({"submission_id": "j", "dashboard_url": url, "details": None})
    assert link == ({"Ray Dashboard": dg.MetadataValue.url(url)} if url and is_link else {})


@pytest.mark.parametrize(
    ("template", "details", "url"),
    [
        ("https://r/#/jobs/{job}", None, "https://r/#/jobs/a%2Fb"),
        ("https://r/{namespace}/{cluster}", _on("RayCluster"), "https://r/n/c"),
        ("https://r/{namespace}/{rayjob}", _on("RayJob"), "https://r/n/c"),
        ("https://r/{namespace}/{cluster}", _on("RayJob"), None),
        ("https://r/{namespace}", None, None),
        ("https://r/{namespace}", "not JSON", None),
    ],
)
def test_a_template_replaces_the_address_in_links(
    template: str, details: str | None, url: str | None
) -> None:
    job: JobRef = {"submission_id": "a/b", "dashboard_url": "http://head:8265", "details": details}
    config = BackendConfig.validated(dashboard_link=template)
    link = dashboard_link(job, config.dashboard_link)
    assert link == ({"Ray Dashboard": dg.MetadataValue.url(url)} if url else {})


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("https://r/{pod}", "its placeholders can only be {job}, {namespace}"),
        ("https://r/{job.__class__}", "can only be {job}"),
        ("https://r/{}", "can only be {job}"),
        ("https://r/{job!r}", "can only be {job}"),
        ("https://r/{job", "expected '}'"),
        ("javascript:{job}", "not an http:// or https:// URL"),
        ("{job}.example.org", "not an http:// or https:// URL"),
    ],
)
def test_an_invalid_template_of_links_is_refused(template: str, problem: str) -> None:
    with pytest.raises(InvalidConfigError) as raised:
        BackendConfig.validated(dashboard_link=template)
    assert problem in str(raised.value) and "write a URL such as" in str(raised.value)


def test_environment_variables_override_the_configured_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert known_address(None) is None
    assert known_address("http://a:1") == ("http://a:1", "address")
    monkeypatch.setenv("RAY_ADDRESS", "http://b:2")
    assert known_address("http://a:1") == ("http://b:2", "RAY_ADDRESS")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://c:3")
    assert known_address("http://a:1") == ("http://c:3", "RAY_API_SERVER_ADDRESS")
    assert Backend(BackendConfig(address="http://a:1")).url == "http://c:3"


def test_env_vars_without_a_value_are_copied_from_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HERE", "a = b")
    monkeypatch.delenv("NOT_HERE", raising=False)
    tag = json.dumps({"env_vars": ["HERE"], "num_cpus": 0})
    spec, _ = _spec(
        {"env_vars": ["HERE", "NOT_HERE", "GIVEN=x"]}, {"dagster-ray/config": tag, "other": "t"}
    )
    assert json.loads(spec["options"])["env_vars"] == ["HERE=a = b", "GIVEN=x"]
    tags = dict(spec["tags"])
    assert json.loads(tags["dagster-ray/config"]) == {"env_vars": ["HERE=a = b"], "num_cpus": 0}
    assert tags["other"] == "t"


def test_launch_specs_do_not_modify_the_configuration() -> None:
    """The options that a tag adds to one launch must not appear in the next."""
    options = run_options({"runtime_env": {"env_vars": {"A": "1"}}, "resources": {"x": 1.0}})
    before = json.dumps(options)
    first, _ = _spec(options, {"dagster-ray/config": '{"resources": {"y": 2}}'})
    second, _ = _spec(options)
    assert json.dumps(options) == before
    assert second["options"] == first["options"] == before


def test_only_local_directories_are_granted(tmp_path: Path) -> None:
    tag = json.dumps({"runtime_env": {"py_modules": [str(tmp_path), "gcs://_ray_pkg.zip"]}})
    _, directories = _spec(
        {"runtime_env": {"working_dir": "/srv/code"}}, {"dagster-ray/config": tag}
    )
    assert directories == {"/srv/code", str(tmp_path)}


def test_a_location_with_a_scheme_is_not_a_directory() -> None:
    modules = ["./b:c", "s3:bucket/a.zip", "git+ssh://host/a", "", None]
    assert local_directories({"working_dir": "code", "py_modules": modules}) == {"code", "./b:c"}


def test_a_backend_config_is_validated_without_printing_credentials() -> None:
    with pytest.raises(InvalidConfigError) as raised:
        BackendConfig.validated(headers={"Authorization": 12345}, kube_config=1)
    assert [field["path"] for field in raised.value.fields or []] == [
        "headers.Authorization",
        "kube_config",
    ]
    assert "12345" not in str(raised.value)
    with pytest.raises(TypeError, match="adress"):
        BackendConfig.validated(adress="http://head:8265")


def test_the_keyword_arguments_of_constructors_are_fields_of_the_backend_config() -> None:
    # The other fields are named parameters, in the order of earlier releases.
    named = {"address", "headers", "cookies", "verify"}
    assert set(BackendConfig.model_fields) - named == set(BackendKeywords.__annotations__)


STEP = {
    "deployment": "d",
    "run_id": "11111111-2222-3333-4444-555555555555",
    "step_key": "a[it's]",
    "attempt": 0,
    "job_name": "job",
    "code_location": None,
    "command": {"argv": ["dagster", "api"], "payload": None, "env": []},
    "tags": [],
    "options": "{}",
}


def _plan(**changes: object) -> dict:
    backend = Backend(BackendConfig(backend="existing", address="http://127.0.0.1:9"))
    [placement] = backend.call("executor.plan", {"steps": [{**STEP, **changes}]})
    if isinstance(placement, Exception):
        raise placement
    return placement["job"]


def test_submission_ids_contain_the_run_id_and_differ_for_similar_step_keys() -> None:
    ids = {
        _plan(step_key=key)["job"]["submission_id"] for key in ("a[b]", "a.b", "a_b", "a b", "a-b-")
    }
    assert len(ids) == 5
    assert all(STEP["run_id"] in submission_id for submission_id in ids)
    other = _plan(run_id="11111111-2222-3333-4444-555555555556", step_key="a_b")
    assert other["job"]["submission_id"] not in ids


@pytest.mark.parametrize(
    ("options", "tags", "named"),
    [
        ({"num_cpus": -1}, [], "num_cpus"),
        ({"num_cpu": 1}, [], "num_cpus"),
        ({}, [["dagster-ray/config", "{not json"]], "dagster-ray/config"),
        ({}, [["dagster-ray/config", '{"num_gpus": "two"}']], "num_gpus"),
    ],
)
def test_errors_name_the_invalid_option_or_tag(options: dict, tags: list, named: str) -> None:
    with pytest.raises(InvalidConfigError) as raised:
        _plan(options=json.dumps(options), tags=tags)
    assert named in str(raised.value)
    assert raised.value.fields


def test_a_deployment_is_identified_by_its_run_storage_or_its_name_on_dagster_plus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_CLOUD_DEPLOYMENT_NAME", raising=False)
    ids: list[str] = []
    # Two processes of one deployment, and another deployment.
    for folder in ("one", "one", "other"):
        (tmp_path / folder).mkdir(exist_ok=True)
        with dg.DagsterInstance.local_temp(str(tmp_path / folder)) as instance:
            ids.append(deployment_id(instance))
    assert ids[0] and ids[0] == ids[1] != ids[2]
    monkeypatch.setenv("DAGSTER_CLOUD_DEPLOYMENT_NAME", "prod")
    with dg.DagsterInstance.ephemeral() as instance:
        assert deployment_id(instance) == "prod"
    assert deployment_id(None) == ""


def test_processes_that_first_use_a_run_storage_at_once_have_the_same_deployment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_CLOUD_DEPLOYMENT_NAME", raising=False)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        storage: Any = instance.run_storage
        stored = storage.get_run_storage_id()
        answers = iter(["an id that another process overtook"])
        # As in a process that found no id, stored one, and was not the first to do so.
        monkeypatch.setattr(storage, "get_run_storage_id", lambda: next(answers, stored))
        assert deployment_id(instance) == stored
