"""Fixtures of the tests of `mercury_lab.torch`."""

import pytest
import torch


@pytest.fixture(autouse=True)
def fixed_state():
    """Equal random numbers in each test, and no hooks or modes left behind."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    yield
    module = torch.nn.modules.module
    assert not module._global_forward_hooks and not module._global_forward_pre_hooks
    assert torch.overrides._len_torch_function_stack() == 0
    assert torch.utils._python_dispatch._len_torch_dispatch_stack() == 0


@pytest.fixture
def folder(tmp_path):
    """The folder of a trace, which does not exist yet."""
    return tmp_path / "trace"
