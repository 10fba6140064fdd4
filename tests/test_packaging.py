"""
What is installed: the wheel and the sdist, built from a copy of the source, hold the plugin, every subpackage and the
data files.
"""

from __future__ import annotations

import atexit
import configparser
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = "twisted/plugins/mportrouter_plugin.py"

# What a working tree has beside the source: made by tools, and partly lists of files that would hide a mistake.
_MADE = shutil.ignore_patterns(
    ".*_cache", ".git", ".hypothesis", ".venv", "venv", "build", "dist", "*.egg-info", "__pycache__", "_trial_temp*",
    "dropin.cache", "twistd.*",
)  # fmt: skip

_BACKEND = """
import sys
from setuptools import build_meta
getattr(build_meta, "build_" + sys.argv[2])(sys.argv[1])
"""

_LOOK = """
import sys
sys.path = [sys.argv[1], *(path for path in sys.path if path != sys.argv[2])]
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
(maker,) = [maker for maker in getPlugins(IServiceMaker) if maker.tapname == "mportrouter"]
import mportrouter
assert mportrouter.__file__.startswith(sys.argv[1]), mportrouter.__file__
from mportrouter import catalog
from mportrouter.pricing import PriceBook
PriceBook.load({})
rows = catalog.load()
print(maker.tapname, maker.module, *(name for name in ("anthropic", "minimax") if name in rows))
"""


def build(source: Path, target: Path, kind: str) -> Path:
    """
    Run the build backend that ``pyproject.toml`` names, in a process of its own and without a network.

    :param kind: ``sdist`` or ``wheel``.
    :returns: the file that it made.
    :raises SkipTest: where the backend is not installed (pip installs it for itself only).
    """
    missing = [name for name in ("setuptools", "wheel") if importlib.util.find_spec(name) is None]
    if missing and (missing != ["wheel"] or not importlib.util.find_spec("setuptools.command.bdist_wheel")):
        raise SkipTest("the build backend is not in this environment: pip install 'setuptools >= 70.1'")
    target.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SETUPTOOLS"))}
    done = subprocess.run(
        [sys.executable, "-c", _BACKEND, str(target), kind],
        cwd=source,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"the build failed:\n{done.stdout[-4000:]}")
    (made,) = target.iterdir()
    return made


class Built:
    """
    Both archives, built once for all tests of this module.

    :ivar wheel: names in the wheel.
    :ivar sdist: names in the sdist, without its top folder.
    """

    def __init__(self, folder: Path) -> None:
        copy = folder / "source"
        shutil.copytree(ROOT, copy, ignore=_MADE)
        self.sdist_file = build(copy, folder / "sdist", "sdist")
        self.wheel_file = build(copy, folder / "wheel", "wheel")
        with zipfile.ZipFile(self.wheel_file) as archive:
            self.wheel = {name for name in archive.namelist() if not name.endswith("/")}
            metadata = {name.rpartition("/")[2]: name for name in self.wheel if ".dist-info/" in name}
            self.metadata = Parser().parsestr(archive.read(metadata["METADATA"]).decode("utf-8"))
            self.entry_points = configparser.ConfigParser()
            self.entry_points.read_string(archive.read(metadata["entry_points.txt"]).decode("utf-8"))
        with tarfile.open(self.sdist_file) as archive:
            self.sdist = {name.partition("/")[2] for name in archive.getnames()}


_built: Built | Exception | None = None


def built() -> Built:
    """The archives; the first call builds them."""
    global _built
    if _built is None:
        folder = Path(tempfile.mkdtemp(prefix="mportrouter-build-"))
        atexit.register(shutil.rmtree, folder, True)
        try:
            _built = Built(folder)
        except (AssertionError, OSError, SkipTest) as error:
            _built = error
    if isinstance(_built, Exception):
        raise _built
    return _built


def source_files() -> set[str]:
    """What must be installed: every Python and data file of the package, and the plugin."""
    source = ROOT / "src"
    found = {PLUGIN}
    for path in (source / "mportrouter").rglob("*"):
        name = path.relative_to(source)
        if path.is_file() and path.suffix != ".pyc" and not any(part.startswith(".") for part in name.parts):
            found.add(name.as_posix())
    return found


class SetupTests(SynchronousTestCase):
    """The list of packages is written by hand; so it is checked."""

    def setUp(self) -> None:
        self.setup = configparser.ConfigParser()
        self.setup.read(ROOT / "setup.cfg", encoding="utf-8")
        self.packages = self.setup["options"]["packages"].split()

    def test_every_package_is_listed(self) -> None:
        """Each folder with an ``__init__.py`` is in ``setup.cfg``, and nothing else but the plugin's folder."""
        source = ROOT / "src"
        folders = {
            ".".join(path.parent.relative_to(source).parts) for path in (source / "mportrouter").rglob("__init__.py")
        }
        self.assertEqual(set(self.packages) - {"twisted.plugins"}, folders)

    def test_plugin_comes_last(self) -> None:
        """``twisted.plugins`` ends the list."""
        self.assertEqual(self.packages[-1], "twisted.plugins")

    def test_every_folder_is_a_package(self) -> None:
        """A folder with Python files and without ``__init__.py`` would be left out."""
        for path in (ROOT / "src" / "mportrouter").rglob("*.py"):
            self.assertTrue((path.parent / "__init__.py").exists(), path.parent)


class ArchiveTests(SynchronousTestCase):
    """The built archives."""

    def setUp(self) -> None:
        self.built = built()

    def test_wheel_holds_everything(self) -> None:
        """The plugin, every subpackage and every data file are in the wheel."""
        self.assertEqual(source_files() - self.built.wheel, set())

    def test_wheel_holds_nothing_else(self) -> None:
        """No file of Twisted's, no test of the whole, nothing left over from a build."""
        foreign = {name for name in self.built.wheel if ".dist-info/" not in name} - source_files()
        self.assertEqual(foreign, set())

    def test_plugin_folder_has_no_init(self) -> None:
        """An ``__init__.py`` in ``twisted`` or ``twisted/plugins`` would overwrite Twisted's."""
        for name in ("twisted/__init__.py", "twisted/plugins/__init__.py"):
            self.assertNotIn(name, self.built.wheel)

    def test_sdist_holds_everything(self) -> None:
        """What is installed is in the sdist too, under ``src``."""
        self.assertEqual({f"src/{name}" for name in source_files()} - self.built.sdist, set())

    def test_sdist_holds_the_rest(self) -> None:
        """The sdist has tests, documentation, service files, presets, bench and what the build needs."""
        wanted = {"LICENSE", "NOTICE", "NEWS.rst", "README.rst", "MANIFEST.in", "pyproject.toml", "setup.cfg"}
        for folder, pattern in (("tests", "*.py"), ("docs", "*.rst"), ("bench", "*.py"), ("etc", "*")):
            found = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob(pattern) if path.is_file()}
            found = {name for name in found if "__pycache__" not in name}
            self.assertTrue(found, folder)
            wanted |= found
        self.assertEqual(wanted - self.built.sdist, set())

    def test_nothing_private(self) -> None:
        """No ``.env``, key, log or pid file is in an archive."""
        for name in self.built.sdist | self.built.wheel:
            base = name.rpartition("/")[2]
            self.assertNotIn(base, (".env", "dropin.cache"))
            self.assertFalse(base.endswith((".pem", ".key", ".log", ".pid", ".pyc")), name)

    def test_commands(self) -> None:
        """The ``mportrouter`` command is installed, and what it names exists."""
        target = self.built.entry_points["console_scripts"]["mportrouter"]
        module, _, function = target.partition(":")
        self.assertTrue(callable(getattr(importlib.import_module(module), function)))

    def test_metadata(self) -> None:
        """The wheel says its version, its Python, its licence, and shows the README."""
        import mportrouter

        metadata = self.built.metadata
        self.assertEqual(metadata["Version"], mportrouter.__version__)
        self.assertEqual(metadata["Requires-Python"], ">=3.10")
        self.assertEqual(metadata["Description-Content-Type"], "text/x-rst")
        self.assertIn("mportrouter", metadata.get_payload())
        self.assertIn("LICENSE", metadata.get_all("License-File", []))


class InstalledTests(SynchronousTestCase):
    """The archives, used."""

    def folder(self) -> Path:
        path = Path(tempfile.mkdtemp(prefix="mportrouter-installed-"))
        self.addCleanup(shutil.rmtree, path, True)
        return path

    def test_same_wheel_from_sdist(self) -> None:
        """The sdist is enough: a wheel built from it holds the same files as one built from the tree."""
        folder = self.folder()
        with tarfile.open(built().sdist_file) as archive:
            if hasattr(tarfile, "data_filter"):
                archive.extractall(folder / "unpacked", filter="data")
            else:
                archive.extractall(folder / "unpacked")
        (source,) = (folder / "unpacked").iterdir()
        wheel = build(source, folder / "wheel", "wheel")
        with zipfile.ZipFile(wheel) as archive:
            self.assertEqual({name for name in archive.namelist() if not name.endswith("/")}, built().wheel)

    def test_plugin_is_found(self) -> None:
        """With the wheel's files on the path, ``twistd`` offers ``mportrouter`` and its data files can be read."""
        folder = self.folder()
        with zipfile.ZipFile(built().wheel_file) as archive:
            archive.extractall(folder)
        done = subprocess.run(
            [sys.executable, "-c", _LOOK, str(folder), str(ROOT / "src")],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertEqual((done.returncode, done.stdout.strip()), (0, "mportrouter mportrouter.tap anthropic minimax"))
