"""
The plan of the house, held against its source: floors, rooms, and what a file may be.

Every module's imports are read with :mod:`ast`, wherever in the file they stand. ``docs/architecture.rst`` tells the
same plan in words; a change here is a change there.
"""

from __future__ import annotations

import ast
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from .house_plan import ALLOWED, FLOORS, OUTSIDE, WORDS_ONLY

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "mportrouter"
SOURCE = ROOT / "src" / PACKAGE

LONGEST = 500
"""Lines of a source file: past them it has two subjects."""

# ---------------------------------------------------------------------------------------------------- reading


@attrs.frozen
class Import:
    """
    :param target: the module, with its package's name in front where it is one of ours.
    :param place: ``file:line``.
    :param at_once: it is done when the module is imported (not in a function, not for type checkers only).
    """

    target: str
    place: str
    at_once: bool


def modules() -> dict[str, Path]:
    """Every module of the package but its tests: dotted name without the package's own (``""`` for itself) to file."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        if parts[0] == "test":
            continue
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def fits(module: str, name: str) -> bool:
    """Whether a name in :data:`FLOORS` stands for ``module``."""
    return module == name or (name.endswith("*") and module.startswith(name[:-1]))


def room_of(module: str) -> tuple[int, str] | None:
    """Floor and room of a module, or ``None`` where the plan does not have it."""
    for number, rooms in enumerate(FLOORS):
        for room, names in rooms.items():
            if any(fits(module, name) for name in names):
                return number, room
    return None


def imports(source: str, module: str, place: str, is_package: bool = False) -> list[Import]:
    """Every import in ``source``, in functions and under ``TYPE_CHECKING`` too."""
    found: list[Import] = []
    package = f"{PACKAGE}.{module}".rstrip(".").split(".")
    if not is_package:
        package.pop()

    def visit(node: ast.AST, at_once: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    found.append(Import(alias.name, f"{place}:{child.lineno}", at_once))
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    base = ".".join([*package[: len(package) - child.level + 1], *filter(None, [child.module])])
                for alias in child.names:
                    found.append(Import(f"{base}.{alias.name}", f"{place}:{child.lineno}", at_once))
            later = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or (
                isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            )
            visit(child, at_once and not later)

    visit(ast.parse(source), True)
    return found


def opens(source: str) -> list[int]:
    """Lines on which ``open()`` is called, the built-in or one of a module's."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = node.func
            if (isinstance(name, ast.Name) and name.id == "open") or (
                isinstance(name, ast.Attribute)
                and name.attr == "open"
                and isinstance(name.value, ast.Name)
                and name.value.id in ("io", "os", "codecs", "builtins")
            ):
                lines.append(node.lineno)
    return lines


def names(target: str, module: str) -> bool:
    """Whether an import of ``target`` names ``module`` or something in it."""
    return target == module or target.startswith(module + ".")


def own(target: str, known: dict[str, Path]) -> str | None:
    """The module of ours that an import's target is or is in, without the package's name; ``None`` for others'."""
    if not names(target, PACKAGE):
        return None
    inner = target[len(PACKAGE) + 1 :]
    while inner not in known and inner:
        inner = inner.rpartition(".")[0]
    return inner


# ---------------------------------------------------------------------------------------------------- the tests


class ReadingTests(SynchronousTestCase):
    """What finds imports finds all of them; else the plan would hold for want of looking."""

    def test_every_form(self) -> None:
        """Plain, from, relative, in a function, in a class, under TYPE_CHECKING and in a ``try``: each is found."""
        source = (
            "import os.path as p, socket\n"
            "from twisted import internet\n"
            "from . import router\n"
            "from ..settings import Settings\n"
            "if TYPE_CHECKING:\n    from .site import Site\n"
            "def f():\n    import time\n"
            "class C:\n    from .. import tap\n"
            "try:\n    import treq\nexcept ImportError:\n    treq = None\n"
        )
        found = {item.target: item.at_once for item in imports(source, "web.http1", "x")}
        self.assertEqual(
            found,
            {
                "os.path": True,
                "socket": True,
                "twisted.internet": True,
                "mportrouter.web.router": True,
                "mportrouter.settings.Settings": True,
                "mportrouter.web.site.Site": False,
                "time": False,
                "mportrouter.tap": True,
                "treq": True,
            },
        )

    def test_relative_in_a_package(self) -> None:
        """A dot in a package's own file means the package, not the one above it."""
        found = imports("from . import http1", "web", "x", is_package=True)
        self.assertEqual([item.target for item in found], ["mportrouter.web.http1"])

    def test_prefix_is_no_part(self) -> None:
        """``timeit`` is not ``time``, and ``twisted.internet.task`` is part of ``twisted.internet``."""
        self.assertFalse(names("timeit", "time"))
        self.assertTrue(names("twisted.internet.task", "twisted.internet"))

    def test_open(self) -> None:
        """``open`` as a call is found; a method that has the name, and the word itself, are not calls of it."""
        self.assertEqual(opens("f = open('x')\ng = io.open('y')\nself.open('z')\nopen\nport.open()\n"), [1, 2])


class HouseTests(SynchronousTestCase):
    """The source as it is."""

    def setUp(self) -> None:
        self.modules = modules()
        self.assertIn("tap", self.modules, "the source was not found")

    def read(self, module: str) -> list[Import]:
        path = self.modules[module]
        return imports(
            path.read_text("utf-8"), module, str(path.relative_to(ROOT)), is_package=path.name == "__init__.py"
        )

    def assertNone(self, mistakes: list[str]) -> None:
        self.assertEqual(mistakes, [], "\n" + "\n".join(mistakes))

    def test_every_module_has_a_room(self) -> None:
        """A new module says in the plan which floor it is on; a module that is gone is gone from the plan."""
        self.assertNone([f"{module} has no room in FLOORS" for module in self.modules if room_of(module) is None])
        for rooms in FLOORS:
            for room, members in rooms.items():
                for member in members:
                    known = any(fits(module, member) for module in self.modules)
                    self.assertTrue(known, f"room {room!r} lists {member!r}, and there is no such module")

    def test_imports_go_downwards(self) -> None:
        """A room imports from floors below it; on its own floor only where the table allows it."""
        mistakes = []
        for module in self.modules:
            here = room_of(module)
            if here is None:
                continue
            for item in self.read(module):
                target = own(item.target, self.modules)
                there = room_of(target) if target is not None else None
                if there is None or there == here or there[1] == "package":
                    continue
                if there[0] > here[0]:
                    mistakes.append(f"{item.place}: {module} (floor {here[0]}) imports {target} (floor {there[0]})")
                elif there[0] == here[0] and (here[1], there[1]) not in ALLOWED:
                    mistakes.append(f"{item.place}: {here[1]} may not import {there[1]}, which is on the same floor")
        self.assertNone(mistakes)

    def test_allowances_are_used(self) -> None:
        """Every line of the table of allowed imports has an import that needs it, on one floor."""
        used = set()
        for module in self.modules:
            for item in self.read(module):
                target = own(item.target, self.modules)
                here, there = room_of(module), room_of(target) if target is not None else None
                if here is not None and there is not None and here[0] == there[0]:
                    used.add((here[1], there[1]))
        self.assertNone([f"nothing needs {pair}: {ALLOWED[pair]}" for pair in ALLOWED if pair not in used])

    def test_rooms_do_not_go_in_circles(self) -> None:
        """What is imported at once leads from room to room and never back."""
        leads: dict[str, set[str]] = {}
        for module in self.modules:
            here = room_of(module)
            for item in self.read(module):
                target = own(item.target, self.modules)
                there = room_of(target) if target is not None else None
                if item.at_once and here is not None and there is not None and here != there:
                    leads.setdefault(here[1], set()).add(there[1])
        done: set[str] = set()

        def walk(room: str, way: tuple[str, ...]) -> None:
            self.assertNotIn(room, way, " → ".join([*way, room]))
            if room not in done:
                for following in sorted(leads.get(room, ())):
                    walk(following, (*way, room))
                done.add(room)

        for room in sorted(leads):
            walk(room, ())

    def test_pure_floors_touch_nothing(self) -> None:
        """Floors 0 and 1 name no reactor, no clock, no operating system, and open no file."""
        mistakes = []
        for module, path in self.modules.items():
            here = room_of(module)
            if here is None or here[0] > 1:
                continue
            for item in self.read(module):
                for outside in OUTSIDE:
                    if names(item.target, outside):
                        mistakes.append(f"{item.place}: {module} is on floor {here[0]} and imports {item.target}")
            shown = path.relative_to(ROOT)
            mistakes.extend(f"{shown}:{line}: {module} opens a file" for line in opens(path.read_text("utf-8")))
        self.assertNone(mistakes)

    def test_words_need_little(self) -> None:
        """Floor 0 imports the standard library, attrs, msgspec, zope.interface and itself."""
        import sys

        mistakes = []
        for module in self.modules:
            here = room_of(module)
            if here is None or here[0] > 0:
                continue
            for item in self.read(module):
                if own(item.target, self.modules) is not None:
                    continue
                top = item.target.partition(".")[0]
                if top not in sys.stdlib_module_names and not any(names(item.target, word) for word in WORDS_ONLY):
                    mistakes.append(f"{item.place}: {module} imports {item.target}")
        self.assertNone(mistakes)

    def test_reactor_is_an_argument(self) -> None:
        """The reactor is imported in the plugin's and the command's functions only; everybody else is given it."""
        mistakes = []
        for module in self.modules:
            for item in self.read(module):
                if names(item.target, "twisted.internet.reactor"):
                    if item.at_once:
                        mistakes.append(f"{item.place}: imported with the module: the reactor would be installed by it")
                    elif module not in ("tap", "adminlink"):
                        mistakes.append(f"{item.place}: {module} takes its reactor as an argument")
        self.assertNone(mistakes)

    def test_doubles_are_for_tests(self) -> None:
        """Nothing that runs imports :mod:`mportrouter.testing`, canned answers or tests."""
        mistakes = []
        for module in self.modules:
            if module in ("testing", "canned"):
                continue
            for item in self.read(module):
                if any(names(item.target, f"{PACKAGE}.{name}") for name in ("testing", "canned", "test")):
                    mistakes.append(f"{item.place}: {module} imports {item.target}")
        self.assertNone(mistakes)

    def test_stand_ins_are_asked_for(self) -> None:
        """The stand-in providers and what they need (:mod:`twisted.web`'s server) load only with ``--demo``."""
        mistakes = []
        for module in self.modules:
            for item in self.read(module):
                if module != "demo" and item.at_once and names(item.target, f"{PACKAGE}.demo"):
                    mistakes.append(f"{item.place}: {module} imports the stand-ins at once")
        self.assertNone(mistakes)

    def test_files_have_one_subject(self) -> None:
        """No source file is longer than 500 lines."""
        mistakes = []
        for folder in ("src", "tests", "bench"):
            for path in sorted((ROOT / folder).rglob("*.py")):
                count = len(path.read_text("utf-8").splitlines())
                if count > LONGEST:
                    mistakes.append(f"{path.relative_to(ROOT)} has {count} lines, more than {LONGEST}")
        self.assertNone(mistakes)

    def test_plugin_folder_is_no_package(self) -> None:
        """No ``__init__.py`` under ``src/twisted``: it would hide Twisted itself."""
        self.assertEqual(list((ROOT / "src" / "twisted").rglob("__init__.py")), [])

    def test_plugin_imports_nothing_of_ours(self) -> None:
        """``twistd --help`` reads every plugin: ours is strings only."""
        path = ROOT / "src" / "twisted" / "plugins" / "mportrouter_plugin.py"
        found = imports(path.read_text("utf-8"), "", str(path.relative_to(ROOT)))
        self.assertEqual(
            [item.target for item in found],
            ["twisted.application.reactors.Reactor", "twisted.application.service.ServiceMaker"],
        )

    def test_written_down(self) -> None:
        """Every room and every allowed import on one floor is in ``docs/architecture.rst``."""
        text = (ROOT / "docs" / "architecture.rst").read_text("utf-8")
        flat = " ".join(text.split())
        missing = [
            f"room {room}" for rooms in FLOORS for room in rooms if room != "package" and f"``{room}``" not in flat
        ]
        missing += [
            f"{here} → {there}: {why}"
            for (here, there), why in ALLOWED.items()
            if f"``{here}`` → ``{there}``" not in flat or why not in flat
        ]
        self.assertNone([f"docs/architecture.rst lacks {item}" for item in missing])
