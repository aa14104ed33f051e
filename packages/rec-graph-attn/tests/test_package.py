"""All that can be promised before the method is written."""

import subprocess
import sys
from importlib.metadata import version

import rec_graph_attn


def test_the_module_carries_the_version_of_the_installed_package():
    assert rec_graph_attn.__version__ == version("rec-graph-attn")


def test_importing_loads_neither_torch_nor_transformers():
    code = "import sys, rec_graph_attn; print(*{'torch', 'transformers'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
