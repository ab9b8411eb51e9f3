"""The resource for development and tests on this machine."""

from typing import Any

from pydantic import PrivateAttr

from dagster_ray.resources import RayResource
from dagster_ray.types import AnyDagsterContext


class LocalRay(RayResource):
    """Ray on this machine, or the cluster of RAY_ADDRESS.

    It creates and deletes no cluster. It disconnects only a connection that it made.
    """

    _reused_connection: bool = PrivateAttr(default=False)

    @property
    def host(self) -> str:
        return "127.0.0.1"

    @property
    def name(self) -> str:
        return "LocalRay"

    @property
    def ray_address(self) -> str | None:
        return None

    @property
    def created(self) -> bool:
        return True

    @property
    def ready(self) -> bool:
        return True

    def _delete(self, context: AnyDagsterContext) -> bool:
        return False

    def _init_ray(self, options: dict[str, Any]) -> Any:
        import ray

        # Steps in one process share a connection, which only the step that made it may close.
        self._reused_connection = ray.is_initialized()
        if self._reused_connection:
            options = {**options, "ignore_reinit_error": True}
        return super()._init_ray(options)

    def _disconnect(self) -> None:
        if not self._reused_connection:
            super()._disconnect()


__all__ = ["LocalRay"]
