"""Tests of the public face: few names, each documented, and an import that is instant."""

import importlib.metadata
import inspect
import re

import pytest

import limpq_hub

# What design/api.md promises.
PROMISED = {"Budget", "Indicators", "InfeasibleBudgetError", "Plan", "Policy", "list_models", "load", "search"}
PROMISED |= {"baselines", "export", "frontier", "to_quantized", "to_supernet"}


def test_at_most_twenty_names_are_public():
    assert len(limpq_hub.__all__) <= 20
    assert sorted(set(limpq_hub.__all__)) == sorted(limpq_hub.__all__)
    assert set(limpq_hub.__all__) >= PROMISED


@pytest.mark.parametrize("name", limpq_hub.__all__)
def test_each_public_name_is_importable_from_this_package_and_documented(name):
    found = getattr(limpq_hub, name)
    assert found.__module__.startswith("limpq_hub.")
    assert found.__name__ == name
    assert inspect.getdoc(found).strip().endswith((".", "`", ")", ":")) or "\n" in inspect.getdoc(found)
    if inspect.isclass(found) and not issubclass(found, Exception):
        methods = {key: value for key, value in vars(found).items() if not key.startswith("_")}
        members = {key: getattr(value, "__func__", value) for key, value in methods.items()}
        undocumented = [key for key, value in members.items() if inspect.isfunction(value) and not value.__doc__]
        assert not undocumented


@pytest.mark.parametrize("name", limpq_hub.__all__)
def test_each_public_function_annotates_its_whole_signature(name):
    found = getattr(limpq_hub, name)
    if inspect.isfunction(found):
        signature = inspect.signature(found)
        assert signature.return_annotation is not inspect.Signature.empty
        assert all(parameter.annotation is not parameter.empty for parameter in signature.parameters.values())


def test_a_star_import_gives_exactly_the_public_names():
    namespace: dict[str, object] = {}
    exec("from limpq_hub import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(limpq_hub.__all__)


def test_dir_lists_the_public_names_and_the_version():
    assert set(dir(limpq_hub)) == {*limpq_hub.__all__, "__version__"}


def test_an_unknown_attribute_is_refused_in_the_words_of_python():
    with pytest.raises(AttributeError, match=r"^module 'limpq_hub' has no attribute 'serach'$"):
        _ = limpq_hub.serach
    with pytest.raises(ImportError, match="cannot import name 'serach' from 'limpq_hub'"):
        from limpq_hub import serach  # noqa: F401


def test_the_version_is_the_one_that_is_installed():
    assert limpq_hub.__version__ == importlib.metadata.version("limpq-hub")
    assert re.fullmatch(r"\d+\.\d+\.\d+", limpq_hub.__version__)


def test_the_import_needs_none_of_the_heavy_packages(run_python):
    heavy = "{'torch', 'timm', 'pulp', 'huggingface_hub', 'numpy', 'PIL', 'rich', 'safetensors'}"
    code = (
        "import sys, limpq_hub, limpq_hub.plan\n"
        f"print(sorted({heavy} & set(sys.modules)))\n"
        "limpq_hub.Budget, limpq_hub.Policy, limpq_hub.Indicators, limpq_hub.LimpqError\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    result = run_python(code)
    assert (result.stdout, result.stderr) == ("[]\n[]\n", "")


def test_every_error_of_the_package_is_a_limpq_error_and_what_a_caller_expects():
    from limpq_hub import errors

    classes = [value for value in vars(errors).values() if inspect.isclass(value) and value is not limpq_hub.LimpqError]
    builtins = (ValueError, RuntimeError, TypeError, OSError)
    for found in classes:
        assert issubclass(found, limpq_hub.LimpqError), found
        assert issubclass(found, builtins), found
        assert found.exit_code in (2, 3, 5, 6), found
        assert found.__doc__, found


@pytest.mark.parametrize(
    ("value", "text"),
    [("a\nb\x1b[31m", r"'a\nb\x1b[31m'"), (3, "3"), ("x" * 200, "'" + "x" * 76 + "..."), (10**5000, "<int>")],
    ids=["control characters", "number", "long", "number too long to print"],
)
def test_a_value_is_shown_escaped_and_short(value, text):
    from limpq_hub.errors import quoted

    assert quoted(value) == text
    assert len(quoted(value)) <= 80
