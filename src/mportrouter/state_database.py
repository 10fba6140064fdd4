"""
The file of the state directory that keeps what must outlive a restart: ``state.sqlite``, SQLite in WAL mode.

One table holds everything, a row for a thing: whose it is (a router, by its lowest port; 0: everybody's), what kind of
thing, its name, its value as JSON, and when it was written. Several routers share the file, each with rows of its own.

A connection is opened for each batch and closed after it: no handle is held over a fork into the background, and a file
that another router has put aside is not written to. Everything here blocks; :mod:`mportrouter.state_kept` has it run in
a thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence

import attrs

from .state import prepare_directory

#: What reading and writing raise where the file cannot be used now; :class:`Damaged` beside.
UNUSABLE = (sqlite3.Error, OSError)

#: Seconds that a batch waits for another router's.
_PATIENCE = 5.0
#: The same at the start, where nothing else goes on meanwhile.
_SHORT_PATIENCE = 1.0
_VERSION = 1
_COLUMNS = ["router", "kind", "name", "value", "at"]
_SCHEMA = """
CREATE TABLE IF NOT EXISTS kept (
    router INTEGER NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (router, kind, name)
) WITHOUT ROWID
"""
#: Rows written between two looks for old ones.
_PRUNE_EVERY = 1000


@attrs.frozen
class Row:
    """
    :param router: lowest port of the router it belongs to, 0: everybody's.
    :param value: JSON, or ``None``: no such row any more.
    :param at: seconds since the epoch.
    """

    router: int
    kind: str
    name: str
    value: str | None
    at: float


@attrs.frozen
class Bounds:
    """
    What is kept of one kind.

    :param lifetime: seconds after which a row is deleted.
    :param most: rows of one router.
    """

    lifetime: float
    most: int


class Damaged(Exception):
    """The file could not be read as what it should be; it has been put aside, and the next batch makes a new one."""


class NotOurs(OSError):
    """The file belongs to a later version of the router and is left as it is."""


class Database:
    """
    :param directory: the state directory; made with the first batch.
    :param bounds: by kind; what is not in it stays until it is deleted.
    """

    def __init__(self, directory: str, bounds: Mapping[str, Bounds]) -> None:
        self._directory = os.path.abspath(os.path.expanduser(directory))
        self.path = os.path.join(self._directory, "state.sqlite")
        self._former = os.path.join(self._directory, "modes.json")
        self._bounds = bounds
        self._written = _PRUNE_EVERY

    # ------------------------------------------------------------------------------------------------ reading

    def read(self, routers: Collection[int]) -> list[Row]:
        """
        The rows of some routers, oldest first; no file is made.

        :raises Damaged: the file is no database of ours.
        :raises sqlite3.Error: it cannot be read now. :raises OSError: the same.
        """
        if not os.path.exists(self.path):
            return []
        with self._connected(_SHORT_PATIENCE) as connection:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise _Malformed(found)
            marks = ",".join("?" * len(routers))
            rows = connection.execute(
                f"SELECT router, kind, name, value, at FROM kept WHERE router IN ({marks}) ORDER BY at", [*routers]
            ).fetchall()
        kinds = (int, str, str, str, float)
        return [Row(*row) for row in rows if all(map(isinstance, row, kinds))]

    def former_modes(self) -> dict[int, str]:
        """
        Port modes in the file that earlier versions kept.

        :raises Damaged: it was not readable, and has been put aside.
        :raises OSError: it cannot be read now.
        """
        try:
            with open(self._former, "rb") as file:
                content = file.read(1 << 20)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        try:
            ports = json.loads(content)["ports"]
            return {int(port): str(mode) for port, mode in ports.items() if isinstance(mode, str)}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            os.replace(self._former, self._former + ".bad")
            raise Damaged(f"{self._former} is not readable; it is put aside as {self._former}.bad") from None

    # ------------------------------------------------------------------------------------------------ writing

    def write(self, rows: Sequence[Row], former: Sequence[Row] = ()) -> None:
        """
        Write a batch, whole or not at all.

        :param former: rows of :meth:`former_modes`, written where there are none; their file is renamed then.
        :raises Damaged: the file was no database of ours.
        :raises sqlite3.Error: it cannot be written now. :raises OSError: the same.
        """
        prepare_directory(self._directory)
        # SQLite gives the files beside it the permissions of this one.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with self._connected(_PATIENCE) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT OR IGNORE INTO kept VALUES (?, ?, ?, ?, ?)",
                [attrs.astuple(row) for row in former],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?)",
                [attrs.astuple(row) for row in rows if row.value is not None],
            )
            connection.executemany(
                "DELETE FROM kept WHERE router = ? AND kind = ? AND name = ?",
                [(row.router, row.kind, row.name) for row in rows if row.value is None],
            )
            written = self._written + len(rows)
            if written >= _PRUNE_EVERY and rows:
                written = 0
                self._prune(connection, max(row.at for row in rows), {row.router for row in rows})
            connection.execute("COMMIT")
            self._written = written
        if former:
            with contextlib.suppress(FileNotFoundError):  # another router was quicker, with the same rows
                os.replace(self._former, self._former + ".old")

    def _prune(self, connection: sqlite3.Connection, now: float, routers: Collection[int]) -> None:
        for kind, bounds in self._bounds.items():
            connection.execute("DELETE FROM kept WHERE kind = ? AND at < ?", (kind, now - bounds.lifetime))
            connection.executemany(
                "DELETE FROM kept WHERE router = :router AND kind = :kind AND name IN ("
                "SELECT name FROM kept WHERE router = :router AND kind = :kind ORDER BY at DESC LIMIT -1 OFFSET :most)",
                [{"router": router, "kind": kind, "most": bounds.most} for router in routers],
            )

    # ------------------------------------------------------------------------------------------------ the file

    @contextlib.contextmanager
    def _connected(self, patience: float) -> Iterator[sqlite3.Connection]:
        """A connection to a file that has the table; what shows that the file is damaged becomes :class:`Damaged`."""
        seen = os.stat(self.path).st_ino
        # In autocommit mode: transactions are begun and ended in words.
        connection = sqlite3.connect(self.path, timeout=patience, isolation_level=None)
        damage = ""
        try:
            self._prepare(connection)
            yield connection
        except sqlite3.DatabaseError as error:
            # Its subclasses are about this moment (locked, full, not allowed); the class itself is about the file.
            if type(error) not in (sqlite3.DatabaseError, _Malformed):
                raise
            damage = str(error)
        finally:
            connection.close()
        if damage:
            self._put_aside(seen)
            raise Damaged(f"{self.path} is damaged ({damage}); it is put aside as {self.path}.bad")

    @staticmethod
    def _prepare(connection: sqlite3.Connection) -> None:
        connection.text_factory = lambda text: text.decode("utf-8", "replace")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise NotOurs(f"state.sqlite was written by a later version (form {version}, this one knows {_VERSION})")
        connection.execute("PRAGMA synchronous = NORMAL")
        if version < _VERSION:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
            connection.execute("COMMIT")
        columns = [row[1] for row in connection.execute("PRAGMA table_info(kept)")]
        if columns != _COLUMNS:
            raise _Malformed("its table is another one")

    def _put_aside(self, seen: int) -> None:
        """:param seen: the damaged file's number; another file by its name is another router's new one."""
        try:
            if os.stat(self.path).st_ino != seen:
                return
            os.replace(self.path, self.path + ".bad")
        except FileNotFoundError:
            return
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.path + "-wal", self.path + ".bad-wal")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path + "-shm")


class _Malformed(sqlite3.DatabaseError):
    """What SQLite itself takes for a database is none of ours."""
