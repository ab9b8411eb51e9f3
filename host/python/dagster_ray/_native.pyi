"""The native module: the host that runs components. Arguments and results are JSON strings.

A listener is called with one argument, a report as JSON, or with two arguments, the channel
(`stdout`, `stderr`) and the bytes of a script's output.
"""

from collections.abc import Callable, Mapping

from dagster_ray.io.entries import Store
from dagster_ray.io.frames import Frames
from dagster_ray.tasks import Tasks

# `release` or `debug`.
PROFILE: str

class Component:
    """A component with its settings and host capabilities. It is fetched and loaded on first use.

    ``wasm`` is the path of a file, or an ``oci://`` reference with a digest.
    """

    def __init__(
        self,
        wasm: str,
        *,
        settings: dict[str, str],
        authorities: list[str],
        kubernetes: str | None = None,
        programs: dict[str, list[str]],
        directories: list[str],
        stores: Mapping[str, Store] | None = None,
        tasks: Tasks | None = None,
        buckets: Mapping[str, str] | None = None,
        grants: str | None = None,
        sha256: str | None = None,
        policy_root: str | None = None,
    ) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def exports(self) -> list[str]: ...
    def call(
        self,
        export: str,
        arguments: str,
        listener: Callable[..., None] | None = None,
        timeout: float | None = None,
    ) -> str: ...
    def start(
        self,
        export: str,
        arguments: str,
        listener: Callable[..., None] | None = None,
        timeout: float | None = None,
        values: list[Frames] | None = None,
        here: bool = False,
    ) -> Call: ...
    def is_inside_cluster(self) -> bool: ...
    def ray_token(self, namespace: str, service: str, port: int) -> str | None: ...
    def forward(self, namespace: str, service: str, port: int) -> Forward: ...

class Forward:
    """A local port that is forwarded to a Kubernetes service until it is closed."""

    @property
    def port(self) -> int: ...
    def close(self) -> None: ...

class Call:
    """A call in progress."""

    def done(self) -> bool: ...
    def result(self, timeout: float | None = None) -> str: ...
    def values(self) -> list[Frames]: ...
    def errors(self) -> list[Exception]: ...
    def usage(self) -> tuple[int, int, int]:
        """The numbers of requests, of repeated requests and of denied requests of an ended call."""

    def cancel(self) -> None: ...

def shutdown() -> None: ...
def supervise() -> None: ...
def close_log() -> None: ...
def check_choices(choices: str, root: str | None) -> None: ...
def value_key_files(root: str | None) -> list[str] | None: ...
def policy_text(root: str | None) -> str | None: ...
def inspect(wasm: str) -> str: ...
def named(name: str, components: str) -> str: ...
def cli(arguments: list[str], *, components: str, programs: dict[str, list[str]]) -> int: ...
