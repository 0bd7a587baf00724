"""Calls that are recorded, layers that run once or not at all: in this thread alone, and nothing is left behind."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from meloedit.backbones.contexts import record_calls, run_once, skip_layers

X = torch.ones(1, 2)


@pytest.fixture
def layers():
    return nn.Sequential(*(nn.Linear(2, 2) for _ in range(3)))


def in_another_thread(call):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


def test_calls_are_recorded_in_the_order_in_which_they_return(layers):
    with record_calls([layers[2], layers, layers[0]]) as calls:
        output = layers(X)
        layers[0](input=X)
        in_another_thread(lambda: layers(X))
    layers(X)
    assert [call.module for call in calls] == [layers[0], layers[2], layers, layers[0]]
    assert calls[0].args == (X,) and calls[2].output is output
    assert calls[3].args == () and calls[3].kwargs == {"input": X}


def test_other_threads_may_call_while_recording_begins_and_ends(layers):
    layers[0].register_forward_hook(lambda *_: None)
    stop, interval = threading.Event(), sys.getswitchinterval()

    def ask():
        while not stop.is_set():
            layers[0](X)

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(ask)
            for _ in range(5000):
                with record_calls([layers[0]]) as calls:
                    pass
            stop.set()
            asking.result()
    finally:
        stop.set()
        sys.setswitchinterval(interval)
    assert calls == []


def test_layers_run_once(layers):
    expected = layers(X)
    with run_once(list(layers)[:2]), record_calls([layers[2]]) as calls:
        assert torch.equal(layers(X), expected)
        assert torch.equal(layers(5 * X), expected)
    assert torch.equal(calls[0].args[0], calls[1].args[0])
    assert not torch.equal(layers(5 * X), expected)


def test_layers_are_skipped_in_this_thread_alone(layers):
    expected, low = layers(X), torch.zeros(1, 2)
    with skip_layers(list(layers)[:2], low):
        assert torch.equal(layers(X), layers[2](low))
        assert torch.equal(in_another_thread(lambda: layers(X)), expected)
    assert torch.equal(layers(X), expected)


@pytest.mark.parametrize("context", [run_once, lambda layers: skip_layers(layers, X)])
def test_a_forward_that_another_library_put_there_is_put_back(layers, context):
    layers[0].forward = wrapper = lambda x: x
    with pytest.raises(KeyError), context(list(layers)):
        assert layers[0].forward is not wrapper
        raise KeyError
    assert layers[0].forward is wrapper
    assert "forward" not in layers[1].__dict__
