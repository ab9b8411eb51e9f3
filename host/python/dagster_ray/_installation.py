"""Detects a second distribution that installs into the folder of this package.

PyPI's distribution `dagster-ray` and this one, `dagster-ray-wasm`, both install the folder
`dagster_ray`. pip installs both without a warning: the later one overwrites modules of the earlier
one, and uninstalling one removes modules of the other. The check reads the folder names beside the
package, because `importlib.metadata` takes 20 ms to import.

If the other distribution was installed last, its `__init__.py` runs instead of this package's. Only
modules that it does not have can detect that: the command `dagster-ray` and the pytest plugin do.
"""

import os
import sys

_OTHER = "dagster_ray-"
_RECORDS = (".dist-info", ".egg-info")
# No pathlib: it takes 8 ms to import, and `dagster-ray --version` uses it nowhere else.
PACKAGE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120


def check(package: str = PACKAGE) -> None:
    """Raises `ImportError` if another distribution has written into the folder `package`."""
    folder = os.path.dirname(package)  # noqa: PTH120
    other = _other_version(folder)
    if other is not None:
        raise ImportError(
            f"dagster-ray {other} and dagster-ray-wasm are both installed in {folder}, and each "
            "has overwritten modules of the other in the folder dagster_ray; run "
            "`pip uninstall -y dagster-ray dagster-ray-wasm && pip install dagster-ray-wasm`"
        )
    # Uninstalling the other distribution removes our `__init__.py`.
    if getattr(sys.modules.get("dagster_ray"), "__file__", None) is None:
        raise ImportError(
            f"modules of dagster-ray-wasm are missing in {package}, as after removing the "
            "distribution dagster-ray; run `pip install --force-reinstall --no-deps "
            "dagster-ray-wasm`"
        )


def _other_version(folder: str) -> str | None:
    """Returns the version of PyPI's `dagster-ray` that is installed in this folder."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(_OTHER)]
    except OSError:
        return None
    for name in names:
        for record in _RECORDS:
            if name.endswith(record):
                return name[len(_OTHER) : -len(record)]
    return None
