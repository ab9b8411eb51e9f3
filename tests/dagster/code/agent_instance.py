"""An instance as that of a hybrid agent of Dagster+: with a name, and with launchers of its own."""

from typing import Any, NoReturn

import dagster as dg
from dagster._core.instance.ref import InstanceRef
from dagster._serdes import ConfigurableClass, ConfigurableClassData


class AgentInstance(dg.DagsterInstance, ConfigurableClass):
    def __init__(
        self, *args: Any, inst_data: ConfigurableClassData | None = None, **kwargs: Any
    ) -> None:
        self._inst_data = inst_data
        super().__init__(*args, **kwargs)

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def config_schema(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> "AgentInstance":
        return cls(inst_data=inst_data, **config_value)

    @staticmethod
    def config_defaults(base_dir: str) -> Any:
        return InstanceRef.config_defaults(base_dir)

    @property
    def deployment_name(self) -> str:
        return "prod"

    @property
    def user_code_launcher(self) -> NoReturn:
        raise AssertionError("a run has no packages of the agent")

    @property
    def run_launcher(self) -> Any:
        return self.user_code_launcher
