"""Tests of vLLM itself need vLLM, which lives in an environment of its own: ``make test-vllm``."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from toy_model import Base, vllm_config

from meloedit.backbones.prompts import CausalPrompts
from meloedit.vllm.edits.host import Host
from meloedit.vllm.graphs.models import edited

HERE = Path(__file__).parent
collect_ignore = [] if find_spec("vllm") else ["test_engine.py", "test_engine_ops.py", "test_server.py"]


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A folder with stores on SmolLM2, and the answers and routes that one process gives (see ``world.py``)."""
    folder = Path(os.environ.get("MELOEDIT_VLLM_WORLD") or tmp_path_factory.mktemp("world"))
    environment = {**os.environ, "MELOEDIT_CACHE": os.environ["MELOEDIT_MODELS"]}
    subprocess.run([sys.executable, str(HERE / "world.py"), str(folder)], check=True, env=environment)
    return folder


@pytest.fixture(scope="session")
def model_folder():
    """The folder of SmolLM2, which ``world`` has converted if it was not there."""
    return Path(os.environ["MELOEDIT_MODELS"]) / "SmolLM2-135M-Instruct"


@pytest.fixture(scope="session")
def store_path(llama, tmp_path_factory):
    """A store with EDITS on the tiny llama."""
    path = tmp_path_factory.mktemp("vllm") / "facts.melo"
    llama.save(path)
    return path


@pytest.fixture
def host(llama, tokenizer):
    """The tiny model as a worker would have it: modules with vLLM's names, a tokenizer, and no Hugging Face model."""
    prompts = CausalPrompts(tokenizer, llama.backbone.stop_ids, llama.backbone.max_length)
    sites = llama.engine.router.bank.sites
    linears = {
        site.name: SimpleNamespace(
            input_size=site.inputs, output_size=site.outputs, weight=torch.zeros(1, dtype=site.dtype)
        )
        for site in sites
    }
    return Host(prompts, linears, llama.engine.router.key_size)


@pytest.fixture(scope="session")
def hf(llama):
    """The configuration of the tiny llama."""
    return llama.model.config


@pytest.fixture
def config(hf, store_path):
    """vLLM's settings, with the store."""
    return vllm_config(hf, store_path)


@pytest.fixture
def model(config):
    """A model with ops that is built as vLLM's are."""
    return edited(Base)(vllm_config=config).requires_grad_(False)
