"""The base install has none of the packages of the extra "export": nothing but an export asks for them."""

import pytest

CODE = """
import sys
for package in ("onnx", "onnxruntime", "openvino", "qonnx"):
    sys.modules[package] = None
import limpq_hub.cli.deploying, limpq_hub.train.validate
from limpq_hub.deploy.exported_network import open_exported
from limpq_hub.errors import OutputError
try:
    limpq_hub.export(None, "nowhere")
except OutputError as error:
    print(error)
"""


@pytest.mark.slow
def test_everything_imports_and_an_export_says_what_to_install(run_python):
    result = run_python(CODE)
    assert result.stderr == ""
    assert result.stdout == (
        'format="openvino" needs onnx and openvino, which are not installed: pip install "limpq-hub[export]"\n'
    )
