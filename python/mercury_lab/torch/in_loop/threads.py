"""The threads of reuse, which are those of PyTorch's operators."""

import ctypes
from pathlib import Path
from typing import Any

import torch

from mercury_lab import _native


def share_threads() -> None:
    """Lets reuse run on the threads of PyTorch's OpenMP runtime, if it has the interface of GCC's."""
    path = Path(torch.__file__).with_name("lib") / "libtorch_cpu.so"
    try:
        # Names are also looked for in the libraries that this one needs, such as its OpenMP runtime.
        library = ctypes.CDLL(str(path))
        functions = library.GOMP_parallel, library.omp_get_max_threads
    except (OSError, AttributeError):
        return
    _native.share_openmp(*(find_address(function) for function in functions))


def find_address(function: Any) -> int:
    """Returns the address of a library's function."""
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None, "a function was found"
    return address
