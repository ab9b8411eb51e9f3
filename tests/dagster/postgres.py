"""A PostgreSQL server for tests, in a folder of its own."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import free_port, wait_for

# Debian keeps the programs of each version in a folder that is not on PATH.
_FOLDERS = "/usr/lib/postgresql"


@dataclass(frozen=True)
class Postgres:
    """A running server with the database `dagster`, whose user has the same name."""

    port: int
    password: str

    def storage(self, password: str) -> dict[str, Any]:
        """Returns `storage` of `dagster.yaml`. `password` names the environment variable."""
        database = {
            "username": "dagster",
            "password": {"env": password},
            "hostname": "127.0.0.1",
            "db_name": "dagster",
            "port": self.port,
            # SQLAlchemy 2.1 prefers another driver than the one that dagster-postgres requires.
            "scheme": "postgresql+psycopg2",
        }
        return {"postgres": {"postgres_db": database}}

    def query(self, text: str) -> list[tuple[Any, ...]]:
        """Executes a statement with a connection of its own, and returns the rows."""
        import psycopg2

        connection = psycopg2.connect(
            host="127.0.0.1",
            port=self.port,
            dbname="dagster",
            user="dagster",
            password=self.password,
            application_name="test",
        )
        try:
            with connection.cursor() as cursor:
                cursor.execute(text)
                return cursor.fetchall()
        finally:
            connection.close()


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Starts a server, and stops it at the end."""
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="dagster-ray-postgres-", dir="/tmp"))
    server = Postgres(free_port(), "a password")
    # The server does not start as root.
    account: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        account = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    secret = folder / "password"
    secret.write_text(server.password)
    secret.chmod(0o644)
    data = folder / "data"
    create = [*("-D", data), *("-U", "dagster"), "-A", "scram-sha-256", f"--pwfile={secret}", "-N"]
    subprocess.run(
        [programs / "initdb", *create], **account, cwd=folder, check=True, stdout=subprocess.DEVNULL
    )
    # A test machine that crashes loses no data of value.
    options = ["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-k", folder]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, "-p", str(server.port), *options],
            **account,
            cwd=folder,
            stderr=log,
            stdout=log,
        )
    try:
        ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(server.port)]
        wait_for("PostgreSQL", lambda: subprocess.run(ready).returncode == 0)
        environment = {**os.environ, "PGPASSWORD": server.password}
        new = ["-h", "127.0.0.1", "-p", str(server.port), "-U", "dagster", "dagster"]
        subprocess.run([programs / "createdb", *new], env=environment, check=True)
        yield server
    finally:
        # SIGINT disconnects the clients; SIGTERM would wait for them.
        process.send_signal(2)
        process.wait(60)
        shutil.rmtree(folder)


def _programs() -> Path:
    """Returns the folder with the programs of the newest installed version."""
    found = sorted(Path(_FOLDERS).glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    assert on_path, f"PostgreSQL is not installed: there is no {_FOLDERS}/*/bin/initdb"
    return Path(on_path).parent
