"""The topics of the configuration, each as a JSON schema."""

import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, cast

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dagster_ray import _library
from dagster_ray.component_files import native
from dagster_ray.configs import BackendConfig, RayExecutorConfig, RayJobSubmissionClientConfig
from dagster_ray.datasets.io_manager import RayDataIOManager
from dagster_ray.executor import ray_executor
from dagster_ray.io.io_manager import RayIOManager
from dagster_ray.kuberay.client_resources import (
    KubeRayClusterClientResource,
    KubeRayJobClientResource,
)
from dagster_ray.kuberay.cluster import KubeRayCluster
from dagster_ray.kuberay.field_names import kuberay_name
from dagster_ray.kuberay.interactive_job import KubeRayInteractiveJob
from dagster_ray.kuberay.pipes import PipesKubeRayJobClient
from dagster_ray.launcher.run_launcher import RayRunLauncher
from dagster_ray.local import LocalRay
from dagster_ray.pipes.arguments import ARGUMENTS
from dagster_ray.pipes.client import PipesRayJobClient
from dagster_ray.reconcile.definitions import ReconcileRayConfig
from dagster_ray.reference import components
from dagster_ray.reference.dagster_schemas import Schema, of_fields, of_type

_library.register()

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
# The extension of a schema that names environment variables.
ENVIRONMENT = "x-environment"
_FILES = ("manifest", "policy")
_RESOURCES: dict[str, tuple[type[BaseModel], str]] = {
    "io_manager": (RayIOManager, "The fields of `RayIOManager`."),
    "data_io_manager": (RayDataIOManager, "The fields of `RayDataIOManager`."),
    "local_ray": (LocalRay, "The fields of the resource `LocalRay`."),
    "kuberay_cluster": (KubeRayCluster, "The fields of the resource `KubeRayCluster`."),
    "kuberay_interactive_job": (
        KubeRayInteractiveJob,
        "The fields of the resource `KubeRayInteractiveJob`.",
    ),
    "kuberay_cluster_client": (
        KubeRayClusterClientResource,
        "The fields of the resource `KubeRayClusterClientResource`.",
    ),
    "kuberay_job_client": (
        KubeRayJobClientResource,
        "The fields of the resource `KubeRayJobClientResource`.",
    ),
    "reconcile": (ReconcileRayConfig, "The config of the op `reconcile_ray_op`."),
}
# Fields of resources that have the form of KubeRay's objects.
_MANIFESTS = {"ray_cluster", "ray_job"}
_CLIENTS: dict[str, type[object]] = {
    "pipes": PipesRayJobClient,
    "kuberay_pipes": PipesKubeRayJobClient,
}
# Type of a constructor's argument: JSON type.
_TYPES: dict[object, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}


def _launcher() -> Schema:
    fields = RayRunLauncher.config_type()
    text = "`config` of the run launcher `RayRunLauncher` in dagster.yaml."
    return _annotated(of_fields(fields, text), RayExecutorConfig)


def _executor() -> Schema:
    config_type = cast("Any", ray_executor.config_schema).config_type
    schema = {**of_type(config_type), "description": "The config of `ray_executor`."}
    return _annotated(schema, RayExecutorConfig)


def _resource(name: str) -> Schema:
    model, text = _RESOURCES[name]
    config_type = cast("Any", model).to_config_schema().config_type
    schema = _annotated({**of_type(config_type), "description": text}, model)
    for manifest in _MANIFESTS & schema["properties"].keys():
        _describe_manifest(schema["properties"][manifest])
    return schema


def _describe_manifest(schema: Schema) -> None:
    """Names the field of KubeRay that a field without a description becomes."""
    fields: dict[str, Schema] = schema.get("properties", {})
    for name, field in fields.items():
        field.setdefault("description", f"KubeRay's field `{kuberay_name(name)}`.")
        for part in (field, *field.get("anyOf", [])):
            _describe_manifest(part)


def _client(name: str) -> Schema:
    client = _CLIENTS[name]
    return {
        "type": "object",
        "additionalProperties": False,
        "description": f"The arguments of `{client.__name__}`.",
        "properties": dict(sorted(_arguments(client).items())),
    }


def _arguments(client: type[object]) -> dict[str, Schema]:
    """Returns the arguments of a constructor, with the fields of `**backend`."""
    hints = typing.get_type_hints(client.__init__)
    found: dict[str, Schema] = {}
    for name, parameter in inspect.signature(client).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            for field, info in BackendConfig.model_fields.items():
                found.setdefault(field, {"description": info.description or ""})
            continue
        schema = _of_hint(hints.get(name))
        if parameter.default not in (None, inspect.Parameter.empty):
            schema["default"] = parameter.default
        known = RayJobSubmissionClientConfig.model_fields.get(name)
        text = ARGUMENTS.get(name) or (known.description if known else None)
        found[name] = {**schema, "description": text} if text else schema
    return {
        name: _with_annotations(schema, BackendConfig.model_fields.get(name))
        for name, schema in found.items()
    }


def _of_hint(hint: object) -> Schema:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = [_of_hint(part) for part in typing.get_args(hint) if part is not type(None)]
        known = [part for part in parts if part]
        return known[0] if len(known) == 1 else {"anyOf": known} if known else {}
    if typing.get_origin(hint) in (Mapping, dict) or (
        inspect.isclass(hint) and issubclass(hint, Mapping)
    ):
        return {"type": "object"}
    return {"type": _TYPES[hint]} if hint in _TYPES else {}


def _annotated(schema: Schema, model: type[BaseModel]) -> Schema:
    """Adds the examples and environment variables of a model's fields."""
    properties: dict[str, Schema] = {
        name: _with_annotations(field, model.model_fields.get(name))
        for name, field in schema["properties"].items()
    }
    return {**schema, "properties": properties}


def _with_annotations(schema: Schema, info: FieldInfo | None) -> Schema:
    if info is None:
        return schema
    added: Schema = {}
    if info.examples:
        added["examples"] = info.examples
    extra = cast("object", info.json_schema_extra)  # pyright: ignore[reportUnknownMemberType]
    if isinstance(extra, dict):
        added |= cast("Schema", extra)
    return {**schema, **added}


def _file(name: str) -> Schema:
    return json.loads(native().file_schema(name))


def _makers() -> dict[str, Callable[[], Schema]]:
    def of(make: Callable[[str], Schema], name: str) -> Callable[[], Schema]:
        return lambda: make(name)

    return {
        "launcher": _launcher,
        "executor": _executor,
        **{name: of(_client, name) for name in _CLIENTS},
        **{name: of(_resource, name) for name in _RESOURCES},
        **{name: of(_file, name) for name in _FILES},
    }


def topics() -> dict[str, Schema]:
    """Returns all topics, in the order of the reference."""
    found = {name: make() for name, make in _makers().items()}
    for name in (*components.BACKENDS, *components.STORES):
        found |= components.schemas(name)
    return {name: {"$schema": _DIALECT, **schema} for name, schema in found.items()}


__all__ = ["ENVIRONMENT", "topics"]
