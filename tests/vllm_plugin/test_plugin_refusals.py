"""What the plugin for vLLM refuses, and with which flags it starts the server."""

import json
import socket
from types import SimpleNamespace

import pytest

from meloedit.errors import MeloEditError, ModelError, StoreError
from meloedit.store import Store
from meloedit.vllm.edits.host import settings_of
from meloedit.vllm.launch import environment, flags_for
from meloedit.vllm.start import checks


def config(**changes):
    """Settings of vLLM that edits can answer with, and changes of them by their path."""
    made = SimpleNamespace(
        compilation_config=SimpleNamespace(mode=0, cudagraph_mode="CUDAGraphMode.NONE"),
        parallel_config=SimpleNamespace(pipeline_parallel_size=1, tensor_parallel_size=1, data_parallel_size=1),
        model_config=SimpleNamespace(runner_type="generate", quantization=None, is_multimodal_model=False),
        cache_config=SimpleNamespace(enable_prefix_caching=True, kv_offloading_size=None),
        scheduler_config=SimpleNamespace(scheduler_cls=checks.SCHEDULER),
        lora_config=None,
        speculative_config=None,
        kv_transfer_config=None,
    )
    for path, value in changes.items():
        *parts, last = path.split("__")
        owner = made
        for part in parts:
            owner = getattr(owner, part)
        setattr(owner, last, value)
    return made


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"compilation_config__mode": 3}, "--enforce-eager"),
        ({"compilation_config__cudagraph_mode": "CUDAGraphMode.FULL"}, "--enforce-eager"),
        ({"parallel_config__pipeline_parallel_size": 2}, "pipeline"),
        ({"parallel_config__tensor_parallel_size": 2}, "tensor"),
        ({"parallel_config__data_parallel_size": 2}, "data parallel"),
        ({"lora_config": object()}, "--enable-lora"),
        ({"speculative_config": object()}, "speculative"),
        ({"kv_transfer_config": object()}, "--kv-transfer-config"),
        ({"cache_config__kv_offloading_size": 4.0}, "offloading"),
        ({"model_config__quantization": "fp8"}, "quantises"),
        ({"model_config__runner_type": "pooling"}, "does not generate"),
    ],
)
def test_what_would_let_the_base_model_answer_is_refused_in_one_line(change, line):
    checks.check_config(config())
    with pytest.raises(ModelError, match=line) as refused:
        checks.check_config(config(**change))
    assert "\n" not in str(refused.value)


def test_a_prefix_cache_that_would_hand_edited_keys_on_is_refused():
    checks.check_scheduler(config(), touching=True)
    plain = config(scheduler_config__scheduler_cls=None)
    checks.check_scheduler(plain, touching=False)
    with pytest.raises(ModelError, match="--scheduler-cls"):
        checks.check_scheduler(plain, touching=True)
    assert not checks.touches_kv(["model.layers.29.mlp.down_proj"], 30)
    assert checks.touches_kv(["model.layers.28.mlp.down_proj", "model.layers.29.mlp.down_proj"], 30)
    assert checks.touches_kv(["model.layers.29.self_attn.k_proj"], 30)


@pytest.mark.parametrize(("version", "line"), [("0.31.4", "not known"), ("0.34.0", "not known"), (None, "installed")])
def test_other_versions_are_refused_with_what_to_install(monkeypatch, version, line):
    monkeypatch.setattr(checks, "_version", lambda: "0.33.0+cpu")
    checks.check_version()
    monkeypatch.setattr(checks, "_version", lambda: version)
    with pytest.raises(ModelError, match=line) as refused:
        checks.check_version()
    assert "pip install" in str(refused.value) and "\n" not in str(refused.value)


def test_the_flags_say_all_that_vllm_needs(llama, store_path, tmp_path, monkeypatch):
    llama.model.save_pretrained(tmp_path / "m")
    flags = flags_for(store_path, ["--port", "0", '--additional-config={"a": 1}'], str(tmp_path / "m"))
    assert flags[flags.index("--worker-extension-cls") + 1] == checks.WORKER and "--enforce-eager" in flags
    extra = json.loads(flags[flags.index("--additional-config") + 1])
    assert extra == {"a": 1, checks.STORE: str(store_path)} and flags[-2:] == ["--port", "0"]
    with pytest.raises(MeloEditError, match="--scheduler-cls"):
        flags_for(store_path, ["--scheduler-cls=x.Y"], str(tmp_path / "m"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(MeloEditError, match="--port"):
            flags_for(store_path, ["--host", "127.0.0.1", "--port", str(taken.getsockname()[1])], str(tmp_path / "m"))
    monkeypatch.setattr("meloedit.vllm.edits.host.file_fingerprint", lambda *args: "another")
    with pytest.raises(StoreError, match="give vLLM that model"):
        flags_for(store_path, [], str(tmp_path / "m"))
    assert environment({"VLLM_PLUGINS": "other"})["VLLM_PLUGINS"] == "other,meloedit"
    with pytest.raises(MeloEditError, match="V2"):
        environment({"VLLM_USE_V2_MODEL_RUNNER": "1"})


def test_stores_that_vllm_cannot_serve_are_refused(store_path):
    store = Store.open(store_path)
    for change, line in (({"reach": "all"}, "reach=all"), ({"mode": "paper"}, "paper mode")):
        with pytest.raises(StoreError, match=line):
            settings_of(SimpleNamespace(path=store.path, config={**store.config, **change}), "Llama")
