"""Checks that a benchmark measures a release build of the extension: a debug build is slow."""

import json
import subprocess

# Runs in the measured environment, which contains only the installed package.
_PROBE = """
import hashlib, json, pathlib
from dagster_ray import _native, __version__
file = pathlib.Path(_native.__file__).resolve()
profile = getattr(_native, "PROFILE", None)
digest = hashlib.sha256(file.read_bytes()).hexdigest()
size = file.stat().st_size
print(json.dumps([__version__, profile, str(file), digest, size]))
"""


def announce(interpreter: str) -> None:
    """Prints which extension the interpreter loads. Exits if it is not a release build."""
    done = subprocess.run(
        [interpreter, "-c", _PROBE], stdout=subprocess.PIPE, text=True, check=True
    )
    version, profile, file, digest, size = json.loads(done.stdout)
    named = f"{file} (sha256 {digest[:12]}, {size / (1 << 20):.1f} MiB)"
    if profile != "release":
        found = "does not say how it was built" if profile is None else f"is a {profile} build"
        raise SystemExit(f"{named} {found}; measure a release build: `cargo xtask develop`")
    print(f"dagster-ray-wasm {version}, {profile} build: {named}", flush=True)
