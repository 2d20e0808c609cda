"""The import directions and the rules of the code that no other test would notice being broken."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import limpq_hub

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path.relative_to(ROOT) for folder in ("limpq_hub", "training", "app") for path in (ROOT / folder).rglob("*.py")
)
# Who may import whom: a room sees itself and the ones before it.
ROOMS = {
    "errors": 0,
    "version": 0,
    "plan": 1,
    "plots": 2,
    "quant": 2,
    "zoo": 3,
    "pictures": 4,
    "tools": 4,
    "train": 5,
    "front": 6,
}
TOOLS = {"deploy", "interop"}
OWNERS = {
    "pulp": ("limpq_hub/plan/solver/",),
    "huggingface_hub": ("limpq_hub/zoo/hub/",),
    "accelerate": ("limpq_hub/train/",),
    "gradio": ("app/",),
    "onnx": ("limpq_hub/deploy/",),
    "onnxruntime": ("limpq_hub/deploy/",),
    "openvino": ("limpq_hub/deploy/",),
    "qonnx": ("limpq_hub/deploy/",),
    "pillow_heif": ("limpq_hub/pictures/",),
}
# The one place that may take any error: what nobody foresaw is told in one line there.
FRONT_DOOR = Path("limpq_hub/cli/faults.py")
BY_NAME = {"__import__", "import_module", "importlib.import_module"}
CODE_EXECUTING = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


class Import(NamedTuple):
    """One imported module, dotted and absolute, with the name taken from it, if any."""

    module: str
    name: str
    line: int


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(), filename=str(path))


@cache
def imports_of(path: Path) -> tuple[Import, ...]:
    """Return every import: at the top, inside functions, under TYPE_CHECKING, and by `import_module("...")`."""
    return tuple(_each_import(path))


def _each_import(path: Path) -> Iterator[Import]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, "", node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.parts[: -node.level] if node.level else ()
            module = ".".join([*package, *filter(None, [node.module])])
            yield from (Import(module, alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in BY_NAME:
            yield from (
                Import(value.value, "", node.lineno) for value in node.args[:1] if isinstance(value, ast.Constant)
            )


def room_of(path: Path) -> str:
    """Return the room of a source file; the front door and the command line are in front."""
    if path.parts[0] != "limpq_hub":
        return "front"
    inside = path.with_suffix("").parts[1]
    return inside if inside in ROOMS else "tools" if inside in TOOLS else "front"


def home_of(found: Import) -> str | None:
    """Return the room that is imported, or None if it is none of ours."""
    parts = found.module.split(".")
    if parts[0] in ("app", "training"):
        return "front"
    if parts[0] != "limpq_hub":
        return None
    inside = parts[1] if len(parts) > 1 else found.name
    return inside if inside in ROOMS else "tools" if inside in TOOLS else "front"


def imports_in(*folders: str) -> Iterator[tuple[Path, Import]]:
    """Yield every import of the files in these folders, with its file."""
    inside = [path for path in SOURCES if path.is_relative_to(Path(*folders))]
    assert inside, f"no file in {folders}"
    for path in inside:
        yield from ((path, found) for found in imports_of(path))


def test_a_module_imports_only_from_its_own_room_and_the_ones_before_it():
    homes = [(path, found, home_of(found)) for path, found in imports_in()]
    assert len(homes) > 1000
    assert not [(path, found) for path, found, home in homes if home and ROOMS[home] > ROOMS[room_of(path)]]


def test_a_room_of_the_trainings_imports_only_from_those_before_it():
    seen = {"data": set(), "weights": set(), "loop": {"data", "weights"}}
    seen["method"] = seen["measure"] = {"data", "weights", "loop"}
    home = ("limpq_hub", "train")
    folders = {path.parts[2] for path, _ in imports_in(*home) if len(path.parts) > 3}
    assert folders == seen.keys()
    taken = [(path, found.module.split(".")) for path, found in imports_in(*home) if len(path.parts) > 3]
    rooms = [(path, parts[2]) for path, parts in taken if tuple(parts[:2]) == home and parts[2] in seen]
    assert len(rooms) > 30
    assert not [(path, room) for path, room in rooms if room not in seen[path.parts[2]] | {path.parts[2]}]


def test_neither_the_library_nor_the_app_imports_the_training_scripts():
    scripts = {script.stem for script in (ROOT / "training").glob("*.py")} | {"training"}
    local = {path.parent: {beside.stem for beside in (ROOT / path).parent.glob("*.py")} for path in SOURCES}
    imports = [*imports_in("limpq_hub"), *imports_in("app")]
    tops = [(path, found, found.module.split(".")[0]) for path, found in imports]
    assert not [(path, found) for path, found, top in tops if top in scripts and top not in local[path.parent]]


def test_the_library_does_not_import_the_app():
    assert not [found for found in imports_in("limpq_hub") if found[1].module.split(".")[0] == "app"]


def modules_imported_by(path: Path, modules: Collection[str]) -> set[str]:
    """Return those of `modules`, by dotted name, that a file imports or takes a name from."""
    taken = {(f"{found.module}.{found.name}", found.module) for found in imports_of(path)}
    return {inside if inside in modules else module for inside, module in taken} & set(modules)


def test_no_file_of_the_library_imports_in_a_circle_not_even_for_types():
    modules = {
        ".".join(path.with_suffix("").parts).removesuffix(".__init__"): path
        for path in SOURCES
        if path.parts[0] == "limpq_hub"
    }
    graph = {module: modules_imported_by(path, modules) for module, path in modules.items()}
    assert graph["limpq_hub.plan.optimum"] >= {"limpq_hub.plan.budget", "limpq_hub.plan.search_problem"}
    TopologicalSorter(graph).prepare()  # raises a CycleError that names the circle


def test_errors_imports_nothing():
    assert {found.module for found in imports_of(Path("limpq_hub/errors.py"))} <= {"__future__"}


def test_plan_imports_neither_torch_nor_anything_that_needs_it_nor_the_network():
    heavy = {"torch", "torchvision", "timm", "safetensors", "huggingface_hub", "requests", "httpx", "urllib", "socket"}
    assert not [found for found in imports_in("limpq_hub", "plan") if found[1].module.split(".")[0] in heavy]


@pytest.mark.parametrize("package", OWNERS)
def test_a_package_with_one_owner_is_imported_there_only(package):
    importers = {str(path) for path in SOURCES if package in {found.module.split(".")[0] for found in imports_of(path)}}
    assert all(importer.startswith(OWNERS[package]) for importer in importers), importers


def test_what_the_buttons_of_the_demo_do_is_written_without_gradio():
    pages = {
        "app.py",
        "_controls.py",
        "_limits.py",
        "_looks.py",
        "_uploads.py",
        "_upload_fields.py",
        "_request_fields.py",
    } | {f"_{tab}_tab.py" for tab in ("search", "inference", "compare")}
    plain = [path for path in SOURCES if path.parts[0] == "app" and path.name not in pages]
    assert "_actions.py" in {path.name for path in plain}
    for path in plain:
        assert "gradio" not in {found.module.split(".")[0] for found in imports_of(path)}, path


def test_every_module_says_what_it_is_for_in_a_sentence():
    assert not [path for path in SOURCES if len((ast.get_docstring(tree_of(path)) or "").split()) < 4]


def test_no_module_is_named_for_what_fits_nowhere():
    nowhere = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert not [path for path in SOURCES if path.stem.strip("_") in nowhere]


def test_no_module_shares_its_name_with_a_public_name():
    modules = {path.stem: path for path in SOURCES if path.parts[0] == "limpq_hub"}
    assert not {name: str(modules[name]) for name in limpq_hub.__all__ if name in modules}


def test_there_are_at_most_20_public_names():
    assert len(limpq_hub.__all__) <= 20


def test_deciding_the_bits_loads_neither_torch_nor_the_hub_client():
    modules = [
        ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        for path in SOURCES
        if path.parts[:2] == ("limpq_hub", "plan")
    ]
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    assert not {"torch", "torchvision", "timm", "safetensors", "huggingface_hub", "accelerate"} & set(loaded.split())


def forbidden_in(tree: ast.Module) -> Iterator[str]:
    """Yield what the style rules out, as `line: what`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            yield f"{node.lineno}: assert"
        elif isinstance(node, ast.ExceptHandler) and (node.type is None or ast.unparse(node.type) == "Exception"):
            yield f"{node.lineno}: except Exception"
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("eval", "exec", "torch.load", "builtins.eval", "builtins.exec"):
                yield f"{node.lineno}: {called}()"
            for keyword in node.keywords:
                # zip(strict=False) is about lengths; everywhere else it means weights that may not fit.
                off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg == "strict" and off and called != "zip":
                    yield f"{node.lineno}: {called}(strict=False)"


def test_no_source_executes_data_asserts_swallows_errors_or_loads_weights_that_do_not_fit():
    forbidden = {path: list(forbidden_in(tree_of(path))) for path in SOURCES}
    (at_the_front_door,) = forbidden.pop(FRONT_DOOR)
    assert at_the_front_door.endswith(": except Exception")
    assert not {path: lines for path, lines in forbidden.items() if lines}
    assert not [found for found in imports_in() if found[1].module.split(".")[0] in CODE_EXECUTING]
    assert not [found for found in imports_in() if (found[1].module, found[1].name) == ("torch", "load")]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("assert x", ["1: assert"]),
        ("try: pass\nexcept: pass", ["2: except Exception"]),
        ("try: pass\nexcept Exception as e: pass", ["2: except Exception"]),
        ("eval('1')", ["1: eval()"]),
        ("model.eval()", []),
        ("import torch\ntorch.load('x')", ["2: torch.load()"]),
        ("model.load_state_dict(w, strict=False)", ["1: model.load_state_dict(strict=False)"]),
        ("zip(a, b, strict=False)", []),
    ],
)
def test_the_search_for_forbidden_code_finds_it(source, found):
    assert list(forbidden_in(ast.parse(source))) == found


def test_the_list_of_imports_sees_those_in_functions_under_type_checking_relative_and_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = Path("limpq_hub/plan/new.py")
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(
        "import a.b\n"
        "if TYPE_CHECKING:\n    from c import d\n"
        "def f():\n    from . import e\n    from ..zoo.hub import g\n    importlib.import_module('h')\n"
    )
    assert {(found.module, found.name) for found in imports_of(path)} == {
        ("a.b", ""), ("c", "d"), ("limpq_hub.plan", "e"), ("limpq_hub.zoo.hub", "g"), ("h", ""),
    }  # fmt: skip
    assert home_of(Import("limpq_hub", "quant", 1)) == "quant"
    assert home_of(Import("limpq_hub", "load", 1)) == home_of(Import("limpq_hub", "cli", 1)) == "front"
    assert home_of(Import("torch", "nn", 1)) is None
