"""Makes the files of weights in this folder, as PyTorch writes them: `python3 make.py`.

Made with PyTorch 2.13; `legacy.pth` has the format from before PyTorch 1.6. Values are small multiples of 1/4, which
float16 and bfloat16 hold exactly; `expected()` of `src/pretrained/tests.rs` has the same formula.
"""

import argparse
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

HERE = Path(__file__).parent


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.bn = nn.BatchNorm1d(2)
        for offset, tensor in enumerate(self.state_dict().values()):
            values = torch.arange(tensor.numel()).reshape(tensor.shape) / 4 - offset
            tensor.copy_(values)


def save(name, value, **options):
    torch.save(value, HERE / name, **options)


def cast(state, dtype):
    return OrderedDict((name, t.to(dtype) if t.is_floating_point() else t) for name, t in state.items())


def in_one_storage(state):
    """The same values as parts of one storage, the matrix transposed and with gaps."""
    storage = torch.full((60,), 99.0)
    matrix = storage[5:35].view(3, 10)[:, 2:6:3].t()
    matrix.copy_(state["fc.weight"])
    parts = OrderedDict(state)
    parts["fc.weight"] = matrix
    for index, name in enumerate(["fc.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]):
        parts[name] = storage[40 + 2 * index : 42 + 2 * index]
        parts[name].copy_(state[name])
    return parts


def main():
    model = Small()
    state = model.state_dict()
    wrapped = OrderedDict(("module._orig_mod." + name, tensor) for name, tensor in state.items())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    save("plain.pth", state)
    save(
        "checkpoint.pth",
        {
            "epoch": 3,
            "args": argparse.Namespace(lr=0.1, data=Path("photos"), big=2**80),
            "best": torch.tensor(0.5),
            "optimizer": optimizer.state_dict(),
            "state_dict": wrapped,
        },
    )
    save("half.pth", cast(state, torch.float16))
    save("bfloat16.pth", cast(state, torch.bfloat16))
    save("strided.pth", in_one_storage(state))
    save("legacy.pth", in_one_storage(state), _use_new_zipfile_serialization=False)
    parameters = {**state, **dict(model.named_parameters())}
    save("protocol4.pth", {"model": parameters}, pickle_protocol=4)
    save("module.pth", model)


if __name__ == "__main__":
    main()
