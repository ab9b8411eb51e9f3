"""Chooses the component of a configuration, and the Ray cluster that it uses."""

from collections.abc import Mapping
from dataclasses import dataclass

from dagster_ray.address import DASHBOARD_PORT, dashboard_url, ingress_url, known_address
from dagster_ray.component_files import (
    built_in,
    declared_settings,
    resolve_component,
    restriction_arguments,
    setting_texts,
)
from dagster_ray.configs import BackendConfig
from dagster_ray.default_namespace import configured_namespace
from dagster_ray.patience import with_patience
from dagster_ray.ray_access import ReplacementBackend, in_ray_job
from dagster_ray.ray_variables import with_upload_rules

_LOCAL = "local"
# The setting of a component whose own clusters have one address, such as an ingress.
_DASHBOARD = "dashboard"


@dataclass(frozen=True)
class Choice:
    """A component file with its settings, and the URL of Ray's dashboard if it is known."""

    wasm: str
    settings: Mapping[str, str]
    url: str | None
    # The address that leads to Ray, as it was written. `None` without one, as for `local`.
    address: str | None = None


def configured_component(config: BackendConfig) -> str | None:
    """Returns the component that the configuration names."""
    return resolve_component(config.backend) if config.backend else None


def replacement(replaced_by: ReplacementBackend) -> Choice:
    """Returns the choice of a component that replaces the configured one."""
    return Choice(built_in(replaced_by.component), replaced_by.settings, replaced_by.url)


def choose(
    config: BackendConfig,
    named: str | None,
    policy_root: str | None,
    start_timeout: float | None = None,
) -> Choice:
    """Returns the component for a configuration. `named` is the one that the configuration names.

    If it names none, the component is `local` without an address of Ray, and `existing` otherwise.
    `start_timeout` is the seconds for which a script may be pending.
    """
    offered = {
        **_environment_settings(),
        **with_upload_rules(with_patience(config, start_timeout)),
    }
    restriction = restriction_arguments(config.backend_grants, config.backend_sha256, policy_root)
    has_clusters = named == built_in("kuberay")
    # Asking a component for its settings loads it.
    if named not in (None, *_by_address()) and (config.address is None or has_clusters):
        declared = declared_settings(named, restriction)
        if config.address is None and "address" not in declared:
            return Choice(named, setting_texts(offered, declared), None)
        if config.address is not None and _DASHBOARD in declared:
            # The clusters are the component's own. RAY_ADDRESS is that of another one.
            url = ingress_url(config.address)
            settings = setting_texts({**offered, _DASHBOARD: url}, declared)
            return Choice(named, settings, url)
    known = known_address(config.address)
    is_local = config.backend == _LOCAL or known is None or known[0] == _LOCAL
    port = offered.get("dashboard_port", DASHBOARD_PORT)
    local_url = f"http://127.0.0.1:{port}"
    if is_local and not (config.backend == _LOCAL and in_ray_job()):
        wasm = named or built_in(_LOCAL)
        address = None
        settings = {"address": local_url, "dashboard_port": str(port)}
    else:
        # Inside a Ray job, `local` means the job's own cluster.
        chosen = None if config.backend == _LOCAL else named
        wasm = chosen or built_in("existing")
        address, origin = known or (local_url, "")
        settings = {"address": dashboard_url(address, origin)}
    url = settings["address"]
    if "dashboard_port" in offered:
        settings["dashboard_port"] = str(port)
    if offered.keys() - settings.keys():
        declared = declared_settings(wasm, restriction)
        if wasm == built_in("existing"):
            # Inside a Ray job, `existing` replaces `local`, whose settings are no options.
            unrestricted = restriction_arguments(None, None, policy_root)
            declared |= declared_settings(built_in(_LOCAL), unrestricted)
        settings |= setting_texts(offered, declared)
    return Choice(wasm, settings, url, address)


def _environment_settings() -> dict[str, object]:
    """Returns the settings that the environment has for each component that declares them."""
    namespace = configured_namespace()
    return {} if namespace is None else {"namespace": namespace}


def _by_address() -> tuple[str, ...]:
    """Returns the built-in components that take an address. Their settings need no query."""
    return built_in("existing"), built_in(_LOCAL)


__all__ = ["Choice", "choose", "configured_component", "replacement"]
