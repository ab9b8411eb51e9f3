"""What ``dg scaffold defs`` writes for a script."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, Generic, TypeVar

import dagster as dg
from dagster.components import scaffold_component
from pydantic import BaseModel

_SCRIPT = '''"""Runs as a Ray job. What it reports with Dagster Pipes appears in Dagster."""

from dagster_pipes import open_dagster_pipes

with open_dagster_pipes() as pipes:
    pipes.log.info("this runs on Ray")
    pipes.report_asset_materialization(metadata={"rows": 3})
'''
_FILE = "script.py"

Params = TypeVar("Params", bound=BaseModel)


class ScriptScaffolder(dg.Scaffolder[Params], Generic[Params]):
    """Writes ``defs.yaml`` and a script with Dagster Pipes, which runs as it is."""

    @abstractmethod
    def attributes(self, params: Params) -> dict[str, Any]:
        """Returns the attributes that the options determine."""

    def scaffold(self, request: dg.ScaffoldRequest[Params]) -> None:
        """Writes the files. An existing script is kept."""
        folder = request.target_path.parent if request.append else request.target_path
        key = getattr(request.params, "asset_key", None) or folder.name
        attributes = {
            "entrypoint": f"python {_FILE}",
            "runtime_env": {"working_dir": "."},
            "assets": [{"key": key}],
            **self.attributes(request.params),
        }
        scaffold_component(request, attributes)
        script = Path(folder, _FILE)
        if not script.exists():
            script.write_text(_SCRIPT)
