"""The class with ops of any architecture, and what its passes do, on a model that is built as vLLM's are."""

import sys
from types import SimpleNamespace

import pytest
import torch
from parts import live_of
from toy_model import Base, UnquantizedMethod, probed, vllm_config

from meloedit.errors import ModelError, StoreError
from meloedit.hooks.blocks import Factors
from meloedit.store import Store
from meloedit.vllm.edits.host import settings_of
from meloedit.vllm.graphs import ops
from meloedit.vllm.graphs.models import edited
from meloedit.vllm.graphs.seat import SEAT
from meloedit.vllm.graphs.shards import Answer


@pytest.fixture
def context(monkeypatch, config):
    """The forward context that vLLM has while a model runs."""
    made = SimpleNamespace(
        is_forward_context_available=lambda: True,
        get_forward_context=lambda: SimpleNamespace(no_compile_layers=config.compilation_config.static_forward_context),
    )
    monkeypatch.setitem(sys.modules, "vllm.forward_context", made)


def test_the_class_is_the_base_class_where_no_store_is_named(hf):
    plain, other = Base(vllm_config=vllm_config(hf)), edited(Base)(vllm_config=vllm_config(hf))
    assert other.melo_seat is None and type(other).__name__ == "Base" and isinstance(other, Base)
    ids = torch.arange(7)
    assert torch.equal(plain(ids), other(ids)) and set(plain.state_dict()) == set(other.state_dict())


def test_two_ops_are_put_in_before_vllm_compiles(model, config, hf, store_path):
    seat, compilation = model.melo_seat, config.compilation_config
    assert compilation.static_forward_context == {SEAT: seat}
    assert compilation.splitting_ops == ["vllm::attention", ops.TAKE]
    settings = settings_of(Store.open(store_path), "Llama")
    assert config.additional_config["meloedit_graph"][: 1 + len(settings.modules)] == [
        settings.key_layer, *settings.modules,
    ]  # fmt: skip
    plain = Base(vllm_config=vllm_config(hf))
    assert set(model.state_dict()) == set(plain.state_dict())  # so the weights load as they did
    assert not hasattr(type(plain.model.layers[0].mlp.down_proj.quant_method), "melo_rows")
    ids = torch.arange(7)
    assert torch.equal(model(ids), plain(ids))


def test_the_probe_sees_each_op_in_eager_and_in_compiled_passes(model, context):
    hooks, _ = probed(model, model)
    hooks.probe()
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    probed(model, compiled)[0].probe()
    ids = torch.arange(8)
    assert model(ids).isfinite().all()
    assert torch.allclose(compiled(ids), model(ids), atol=1e-5)


def test_the_probe_sees_an_op_that_does_not_run(model, context, hf):
    plain = Base(vllm_config=vllm_config(hf))
    with pytest.raises(ModelError, match="without the op behind"):
        probed(model, plain)[0].probe()  # compiled code of another class
    name, linear = next(iter(model.melo_seat.linears.items()))
    linear.quant_method = UnquantizedMethod()
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        probed(model, model)[0].probe()


def test_the_probe_sees_a_key_layer_without_its_op(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm.forward_context", None)  # nobody finds the seat: as inside of a graph
    with pytest.raises(ModelError, match="without the op behind"):
        probed(model, model)[0].probe()


@torch.no_grad()
def test_a_block_changes_the_row_of_its_token_and_no_other_bit(model, context):
    wide, ids = model.melo_seat.wide, torch.arange(9)
    base = model(ids)
    torch.manual_seed(2)
    factors = {
        name: Factors(torch.randn(2, one.input_size), torch.randn(one.output_size, 2), torch.randn(2, 2))
        for name, one in model.melo_seat.linears.items()
    }
    wide.seat("a", Answer(0, 0, factors), ["a"])
    wide.rows[3] = 1
    found = model(ids)
    rest = [0, 1, 2, 4, 5, 6, 7, 8]
    assert torch.equal(found[rest], base[rest]) and not torch.allclose(found[3], base[3], atol=1e-2)


def test_stores_with_other_places_or_larger_blocks_are_refused(model, host, store_path):
    settings = settings_of(Store.open(store_path), "Llama")
    model.melo_seat.check(settings)
    other = SimpleNamespace(key_layer=settings.key_layer, modules=["model.layers.0.mlp.down_proj"])
    with pytest.raises(ModelError, match="start it anew"):
        model.melo_seat.check(other)
    host.limits = (1, 1)
    with pytest.raises(StoreError, match="too large for this server"):
        live_of(host, store_path).check(Store.open(store_path).model)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"cudagraph_mode": "CUDAGraphMode.FULL_AND_PIECEWISE"}, "PIECEWISE or NONE"),
        ({"cudagraph_mode": "CUDAGraphMode.FULL"}, "PIECEWISE or NONE"),
        ({"mode": 1}, "mode 1"),
        ({"use_inductor_graph_partition": True}, "use_inductor_graph_partition"),
        ({"pass_config": SimpleNamespace(enable_sp=True)}, "enable_sp"),
    ],
)
def test_what_ops_cannot_do_is_refused_in_one_line(hf, store_path, change, line):
    with pytest.raises(ModelError, match=line) as refused:
        edited(Base)(vllm_config=vllm_config(hf, store_path, **change))
    assert "\n" not in str(refused.value)
