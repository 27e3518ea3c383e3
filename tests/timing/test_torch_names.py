"""What the GPU path asks of torch is there, with these arguments, in 2.11 and in what is installed.

A CPU runs none of it, so that a name that torch dropped would show on a GPU alone.
"""

import ast
import inspect
from pathlib import Path
from pkgutil import resolve_name
from typing import NamedTuple

import pytest
import torch
from support.torch_211 import NAMES, PARAMETERS, signature_211

import dlm_bench
from dlm_bench.kernels.choice import _has_varlen

PACKAGE = Path(dlm_bench.__file__).parent
# Called on an object, where no scan knows the class.
METHODS = {
    "torch.cuda.CUDAGraph.replay": [1, ()],
    "torch.cuda.Event.record": [1, ()],
    "torch.cuda.Event.elapsed_time": [2, ()],
}
VARLEN = "torch.nn.attention.varlen.varlen_attn"
STUBS = Path(torch.__file__).parent / "_C"


class Call(NamedTuple):
    name: str
    positional: int
    keywords: tuple[str, ...]


def dotted(node):
    """`a.b.c` of a chain of attributes, empty for anything else."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def is_for_gpus(name):
    """True of what only a GPU runs, or what torch calls private; a CPU runs oneDNN's (mkldnn)."""
    if ".mkldnn." in name:
        return False
    private = any(part.startswith("_") for part in name.split(".")[1:]) and "__" not in name
    return name.startswith(("torch.cuda.", "torch.backends.", "torch.nn.attention.")) or (
        name.startswith("torch.") and private
    )


def used():
    """The calls, and all names, of the package."""
    calls, names = set(), set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {
            alias.asname or alias.name: f"{node.module}.{alias.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch.")
            for alias in node.names
        }
        names |= {name for name in imported.values() if is_for_gpus(name)}
        inner = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and id(node) not in inner:
                names |= {dotted(node)} if is_for_gpus(dotted(node)) else set()
            if isinstance(node, ast.Call):
                name = dotted(node.func)
                name = imported.get(name, name)
                if is_for_gpus(name):
                    keywords = tuple(sorted(str(each.arg) for each in node.keywords))
                    calls.add(Call(name, len(node.args), keywords))
    return calls, names


CALLS, USED = used()
CALLS |= {Call(name, *call) for name, call in METHODS.items()}


def binds(signature, call):
    try:
        signature.bind(*[None] * call.positional, **dict.fromkeys(call.keywords))
    except TypeError:
        return False
    return True


def stubbed(name):
    """The signature of a function of torch._C, by the stubs that are installed with it; a build
    without CUDA has nothing else."""
    for stub in ("__init__.pyi", "_VariableFunctions.pyi"):
        for node in ast.parse((STUBS / stub).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name == name.rpartition(".")[2]:
                kinds, given = inspect.Parameter, node.args
                optional = len(given.args) - len(given.defaults)
                found = [
                    kinds(
                        each.arg,
                        kinds.POSITIONAL_OR_KEYWORD,
                        default=kinds.empty if i < optional else None,
                    )
                    for i, each in enumerate(given.args)
                ]
                found += [
                    kinds(each.arg, kinds.KEYWORD_ONLY, default=None) for each in given.kwonlyargs
                ]
                return inspect.Signature(found)
    raise AssertionError(f"torch has no {name}")


def test_the_table_of_torch_2_11_holds_all_that_is_used_and_nothing_else():
    assert USED | METHODS.keys() == PARAMETERS.keys() | NAMES
    assert {call.name for call in CALLS} == PARAMETERS.keys()


@pytest.mark.parametrize("call", sorted(CALLS), ids=str)
def test_torch_2_11_takes_each_call(call):
    takes = binds(signature_211(call.name), call)
    assert takes == (call.name != VARLEN), "varlen_attn(seqused_k=) came later"


@pytest.mark.parametrize("call", sorted(CALLS), ids=str)
def test_the_installed_torch_takes_each_call(call):
    if call.name.startswith(("torch._C.", "torch._addmm")):
        signature = stubbed(call.name)
    else:
        signature = inspect.signature(resolve_name(call.name))
    assert binds(signature, call) or (call.name == VARLEN and not _has_varlen())


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_class_is_there(name):
    assert inspect.isclass(resolve_name(name))


def test_attention_of_packed_sequences_is_not_chosen_where_torch_lacks_an_argument(monkeypatch):
    assert _has_varlen() == ("seqused_k" in inspect.signature(resolve_name(VARLEN)).parameters)

    def older(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None): ...

    monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", older)
    assert not _has_varlen()
