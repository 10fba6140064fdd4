"""Tests for :mod:`mportrouter.state_database`."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
from collections.abc import Collection

from twisted.trial.unittest import SynchronousTestCase

from .. import state_database
from ..state_database import Bounds, Damaged, Database, NotOurs, Row

BOUNDS = {"decision": Bounds(3600.0, 3)}


class DatabaseTestCase(SynchronousTestCase):
    """A state directory that nobody has made yet."""

    def setUp(self) -> None:
        self.directory = os.path.join(os.path.abspath(self.mktemp()), "state")
        self.database = self.make()

    def make(self) -> Database:
        return Database(self.directory, BOUNDS)

    def pin(self, value: str | None, router: int = 1, name: str = "mixed", at: float = 100.0) -> Row:
        return Row(router, "pin", name, None if value is None else json.dumps(value), at)

    def put(self, content: bytes, name: str = "state.sqlite") -> str:
        os.makedirs(self.directory, exist_ok=True)
        path = os.path.join(self.directory, name)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def ask(self, *words: str) -> None:
        """Do something to the file with SQLite itself."""
        with contextlib.closing(sqlite3.connect(self.database.path)) as connection:
            for sql in words:
                connection.execute(sql)
            connection.commit()

    def values(self, routers: Collection[int] = (1,)) -> list[str | None]:
        return [row.value for row in self.make().read(routers)]


class RowsTests(DatabaseTestCase):
    """What is written is read."""

    def test_nothing(self) -> None:
        """Where there is no file there are no rows, and reading makes none."""
        self.assertEqual(self.database.read([0, 1]), [])
        self.assertFalse(os.path.exists(os.path.dirname(self.directory)))

    def test_written(self) -> None:
        """Rows come back as they were; a later one takes the place of an earlier one, or takes it away."""
        rows = [self.pin("a", at=1.0), self.pin("b", name="ünïcødé", at=2.0), Row(0, "port", "8787", '"m"', 3.0)]
        self.database.write(rows)
        self.assertEqual(self.make().read([0, 1]), rows)
        self.database.write([self.pin("c", at=4.0), self.pin(None, name="ünïcødé"), self.pin(None, name="never")])
        self.assertEqual(self.make().read([0, 1]), [rows[2], self.pin("c", at=4.0)])

    def test_by_router(self) -> None:
        """Only the rows of those that were asked for are read."""
        self.database.write([self.pin(name, router=number) for number, name in enumerate("abc")])
        self.assertEqual(self.values([0, 2]), ['"a"', '"c"'])

    def test_two_routers(self) -> None:
        """Two that write in turn keep each other's rows."""
        other = self.make()
        self.database.write([self.pin("a", router=1)])
        other.write([self.pin("b", router=2)])
        self.database.write([self.pin("c", router=1)])
        self.assertEqual(sorted(map(str, self.values([1, 2]))), ['"b"', '"c"'])

    def test_permissions(self) -> None:
        """Directory and file are their owner's alone, and so is what SQLite puts beside it; nothing is left over."""
        self.database.write([self.pin("a")])
        self.assertEqual(stat.S_IMODE(os.stat(self.directory).st_mode), 0o700)
        self.assertEqual(os.listdir(self.directory), ["state.sqlite"])
        with contextlib.closing(sqlite3.connect(self.database.path)) as connection:
            self.assertEqual(connection.execute("PRAGMA journal_mode").fetchone(), ("wal",))
            connection.execute("DELETE FROM kept")
            for name in os.listdir(self.directory):
                self.assertEqual(stat.S_IMODE(os.stat(os.path.join(self.directory, name)).st_mode), 0o600, name)
            self.assertIn("state.sqlite-wal", os.listdir(self.directory))

    def test_bounds(self) -> None:
        """Of one kind there are no more rows than the bound, the newest, and none that is too old; others stay."""
        rows = [Row(1, "decision", str(number), "1", 10_000.0 + number) for number in range(5)]
        old = Row(1, "decision", "old", "1", 6000.0)
        others = [Row(2, "decision", "x", "1", 9000.0), Row(2, "decision", "y", "1", 5000.0), self.pin("p", at=1.0)]
        self.database.write([old, *others, *rows])
        names = [row.name for row in self.make().read([1, 2])]
        self.assertEqual(names, ["mixed", "x", "2", "3", "4"])

    def test_seldom_pruned(self) -> None:
        """Not every batch looks for old rows; there are never a thousand more than the bound."""
        most = 0
        for number in range(10):
            batch = [Row(1, "decision", f"{number}-{each}", "1", 100.0 + number) for each in range(300)]
            self.database.write(batch)
            most = max(most, len(self.make().read([1])))
        self.assertGreater(most, 300)
        self.assertLess(most, 1000 + 3)

    def test_ugly_rows(self) -> None:
        """A row that is not what it should be is passed over, and does not hide the others."""
        self.database.write([self.pin("a")])
        self.ask(
            "INSERT INTO kept VALUES (1, 'pin', 'x', x'00ff', 1)",
            "INSERT INTO kept VALUES (1, 'pin', 'y', CAST(x'ff22' AS TEXT), 1)",
            "INSERT INTO kept VALUES ('one', 'pin', 'z', '1', 1)",
        )
        self.assertEqual([row.name for row in self.make().read([1])], ["y", "mixed"])


class DamageTests(DatabaseTestCase):
    """Files that are no databases, or not ours."""

    def aside(self) -> bytes:
        with open(self.database.path + ".bad", "rb") as file:
            return file.read()

    def test_garbage(self) -> None:
        """A file that is no database is put aside when it is read; the next batch makes a new one."""
        for content in (b"garbage" * 100, b"{}", b"SQLite format 3\0" + b"\xff" * 5000):
            self.put(content)
            error = self.assertRaises(Damaged, self.make().read, [1])
            self.assertIn("state.sqlite.bad", str(error))
            self.assertEqual(self.aside(), content)
            self.assertFalse(os.path.exists(self.database.path))
        self.database.write([self.pin("a")])
        self.assertEqual(self.values(), ['"a"'])

    def test_garbage_while_running(self) -> None:
        """The same where the damage shows only when something is written."""
        self.database.write([self.pin("a")])
        self.put(b"garbage" * 1000)
        self.assertRaises(Damaged, self.database.write, [self.pin("b")])
        self.assertEqual(self.aside(), b"garbage" * 1000)
        self.database.write([self.pin("b")])
        self.assertEqual(self.values(), ['"b"'])

    def test_damaged_pages(self) -> None:
        """A database whose pages are damaged behind a good head is put aside too, whatever is asked of it."""
        self.database.write([Row(1, "pin", f"{number}" * 50, json.dumps("x" * 500), 1.0) for number in range(200)])
        with open(self.database.path, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            for start in range(8192, size, 4096):
                file.seek(start)
                file.write(b"\x55" * 4096)
        self.assertRaises(Damaged, self.make().read, [2])
        self.assertEqual(self.values(), [])

    def test_truncated(self) -> None:
        """A database that lost its end is put aside; an empty file is a new one."""
        self.database.write([Row(1, "pin", f"{number}" * 50, json.dumps("x" * 500), 1.0) for number in range(200)])
        with open(self.database.path, "r+b") as file:
            file.truncate(6000)
        self.assertRaises(Damaged, self.make().read, [1])
        self.put(b"")
        self.assertEqual(self.values(), [])
        self.database.write([self.pin("a")])
        self.assertEqual(self.values(), ['"a"'])

    def test_other_table(self) -> None:
        """A table of another shape under our version is damage, not an error for ever."""
        self.put(b"")
        self.ask("CREATE TABLE kept (a)", "PRAGMA user_version = 1")
        self.assertRaises(Damaged, self.database.read, [1])
        self.assertTrue(os.path.exists(self.database.path + ".bad"))

    def test_later_version(self) -> None:
        """The file of a later version is left as it is."""
        self.database.write([self.pin("a")])
        self.ask("PRAGMA user_version = 2")
        self.assertRaises(NotOurs, self.database.read, [1])
        self.assertRaises(NotOurs, self.database.write, [self.pin("b")])
        self.ask("PRAGMA user_version = 1")
        self.assertEqual(self.values(), ['"a"'])

    def test_locked(self) -> None:
        """A file that somebody else has locked for too long is not damaged."""
        self.patch(state_database, "_PATIENCE", 0.0)
        self.database.write([self.pin("a")])
        with contextlib.closing(sqlite3.connect(self.database.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            self.assertRaises(sqlite3.OperationalError, self.database.write, [self.pin("b")])
            self.assertEqual(self.values(), ['"a"'])
            other.execute("ROLLBACK")
        self.database.write([self.pin("b")])
        self.assertEqual(self.values(), ['"b"'])

    def test_directory_in_its_place(self) -> None:
        """What cannot be opened at all is an error and not put aside."""
        os.makedirs(self.database.path)
        self.assertRaises(sqlite3.OperationalError, self.database.read, [1])
        self.assertRaises(OSError, self.database.write, [self.pin("a")])
        self.assertTrue(os.path.isdir(self.database.path))

    def test_somebody_was_quicker(self) -> None:
        """Where another router has put the damaged file aside meanwhile, its new one stays."""
        self.database.write([self.pin("a")])
        self.database._put_aside(os.stat(self.database.path).st_ino + 1)
        self.assertEqual(self.values(), ['"a"'])
        os.unlink(self.database.path)
        self.database._put_aside(1)
        self.assertEqual(os.listdir(self.directory), [])

    def test_unfinished_batch(self) -> None:
        """A batch that fails in its middle has changed nothing."""
        self.database.write([self.pin("a")])
        bad = Row(1, "pin", "x", "1", None)  # type: ignore[arg-type]
        self.assertRaises(sqlite3.IntegrityError, self.database.write, [self.pin("b"), bad])
        self.assertEqual(self.values(), ['"a"'])


class FormerModesTests(DatabaseTestCase):
    """``modes.json`` of earlier versions."""

    def test_none(self) -> None:
        """Where there is no such file there is nothing to take over."""
        self.assertEqual(self.database.former_modes(), {})

    def test_taken_over(self) -> None:
        """Its modes are written where none are known, and the file is renamed then, not before."""
        path = self.put(b'{"version": 1, "ports": {"8787": "minimax", "8771": "mixed", "1": 2}}', "modes.json")
        modes = self.database.former_modes()
        self.assertEqual(modes, {8787: "minimax", 8771: "mixed"})
        self.assertTrue(os.path.exists(path))
        self.database.write([Row(0, "port", "8787", '"newer"', 1.0)])
        former = [Row(0, "port", str(port), json.dumps(mode), 2.0) for port, mode in modes.items()]
        self.database.write([Row(0, "port", "8771", None, 3.0)], former)
        self.assertEqual({row.name: row.value for row in self.make().read([0])}, {"8787": '"newer"'})
        self.assertFalse(os.path.exists(path))
        self.assertTrue(os.path.exists(path + ".old"))

    def test_two_take_over(self) -> None:
        """Two routers that start at once both may."""
        self.put(b'{"ports": {"8787": "minimax"}}', "modes.json")
        former = [Row(0, "port", "8787", '"minimax"', 2.0)]
        self.make().write([], former)
        self.make().write([], former)
        self.assertEqual(self.values([0]), ['"minimax"'])

    def test_broken(self) -> None:
        """A broken file is put aside."""
        for content in (b"", b"{", b"[]", b'{"ports": {"x": "y"}}', b'{"ports": 3}', b"\xff", b"[" * 100000):
            path = self.put(content, "modes.json")
            self.assertRaises(Damaged, self.database.former_modes)
            self.assertFalse(os.path.exists(path))
            with open(path + ".bad", "rb") as file:
                self.assertEqual(file.read(), content)
