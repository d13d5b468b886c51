"""Operands of each kind of call, compared with ones computed by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tools import assert_close, output_gradient, run_step

CONVOLUTIONS = [
    nn.Conv2d(4, 6, 3),
    nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
    nn.Conv2d(4, 8, 3, groups=4, padding=1),
    nn.Conv2d(4, 6, 3, padding="same"),
    nn.Conv2d(4, 6, 3, padding="valid"),
]


@pytest.mark.parametrize("conv", CONVOLUTIONS, ids=str)
def test_convolution(conv, folder):
    x = torch.randn(2, 4, 9, 8)
    trace, y, capture = run_step(nn.Sequential(conv), folder, (x,))
    capture.verify()
    layer = trace.layers["0"]
    assert (layer["op"], layer["input_grad"]) == ("conv2d", False)
    assert_close(trace.values("0", "input"), x)
    assert_close(trace.values("0", "weight"), conv.weight)
    assert_close(trace.values("0", "grad_output"), output_gradient(y))
    assert trace.keys("0", "input") == {"sample": [0] * 4 + [1] * 4, "channel": [0, 1, 2, 3] * 2}


def test_even_kernel_with_same_padding_is_padded_on_one_side(folder):
    conv = nn.Conv2d(2, 3, 4, padding="same")
    x = torch.randn(2, 2, 6, 6)
    trace, _, capture = run_step(nn.Sequential(conv), folder, (x,))
    capture.verify()
    assert_close(trace.values("0", "input"), F.pad(x, [0, 1, 0, 1]))


def test_reflect_padding_is_part_of_the_input(folder):
    conv = nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect")
    x = torch.randn(2, 2, 6, 6)
    trace, _, capture = run_step(nn.Sequential(conv), folder, (x,))
    capture.verify()
    assert_close(trace.values("0", "input"), F.pad(x, [1, 1, 1, 1], mode="reflect"))


def test_one_dimensional_convolution_has_planes_of_one_row(folder):
    conv = nn.Conv1d(3, 4, 3, stride=2, padding=1)
    x = torch.randn(2, 3, 11)
    trace, y, capture = run_step(nn.Sequential(conv), folder, (x,))
    capture.verify()
    assert (trace.layers["0"]["op"], trace.layers["0"]["input_height"]) == ("conv2d", 1)
    assert capture.coverage().rows[0].op == "conv1d"
    assert_close(trace.values("0", "input"), x)
    assert_close(trace.values("0", "grad_output"), output_gradient(y))


def test_channels_last_and_in_place_relu(folder):
    """pytorch#61519: a gradient hook on a module sees the gradient behind an in-place ReLU."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3))
    model = model.to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    trace, y, capture = run_step(model, folder, (x,))
    capture.verify()
    first = F.conv2d(x, model[0].weight, model[0].bias)
    (expected,) = torch.autograd.grad(model[2](first.relu()), first, output_gradient(y))
    assert_close(trace.values("0", "grad_output"), expected)
    assert_close(trace.values("2", "input"), first.relu())


class Function(nn.Module):
    """Computes a function of an input and a parameter."""

    def __init__(self, function, *shape):
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.randn(shape))

    def forward(self, *args):
        return self.function(*args, self.weight)


LINEAR = {
    "linear": (lambda x, w: F.linear(x, w), True),
    "matmul": (lambda x, w: x @ w.t(), True),
    "stored transposed": (lambda x, w: torch.matmul(x, w), False),
    "einsum": (lambda x, w: torch.einsum("brk,kn->brn", x, w), False),
    "einsum, reversed": (lambda x, w: torch.einsum("nk,brk->brn", w, x), True),
    "einsum with ellipsis": (lambda x, w: torch.einsum("...k,nk->...n", x, w), True),
    "einsum, transposed output": (lambda x, w: torch.einsum("brk,nk->bnr", x, w).transpose(1, 2), True),
    "tensordot": (lambda x, w: torch.tensordot(x, w, 1), False),
    "left operand": (lambda x, w: (w @ x.transpose(1, 2)).transpose(1, 2), True),
}


@pytest.mark.parametrize("name", LINEAR)
def test_products_with_a_weight_are_linear_layers(name, folder):
    function, by_rows = LINEAR[name]
    model = Function(function, 5, 4) if by_rows else Function(function, 4, 5)
    x = torch.randn(2, 3, 4)
    trace, y, capture = run_step(model, folder, (x,))
    capture.verify()
    (layer,) = trace.layers.values()
    assert (layer["op"], layer["name"]) == ("linear", "model")
    assert_close(trace.values("model", "input"), x)
    assert_close(trace.values("model", "weight"), model.weight if by_rows else model.weight.t())
    assert_close(trace.values("model", "grad_output"), output_gradient(y))


def test_addmm_has_its_factor_in_the_gradient(folder):
    model = Function(lambda x, w: torch.addmm(torch.ones(5), x, w, beta=0.5, alpha=3.0), 4, 5)
    trace, y, capture = run_step(model, folder, (torch.randn(2, 4),))
    capture.verify()
    assert_close(trace.values("model", "grad_output"), 3 * output_gradient(y))


PRODUCTS = {
    "matmul": lambda a, b: a @ b,
    "bmm": lambda a, b: torch.bmm(a.flatten(0, 1), b.flatten(0, 1)).view(2, 3, 4, 6),
    "einsum": lambda a, b: torch.einsum("bhij,bhjk->bhik", a, b),
    "einsum, other order": lambda a, b: torch.einsum("bhij,bhjk->bihk", a, b).transpose(1, 2),
    "baddbmm": lambda a, b: torch.baddbmm(torch.zeros(6, 1, 1), a.flatten(0, 1), b.flatten(0, 1)).view(2, 3, 4, 6),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_two_activations(name, folder):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, a, b):
            return PRODUCTS[name](a * self.scale, b)

    a, b = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 5, 6)
    trace, y, _ = run_step(Model(), folder, (a, b))
    (layer,) = trace.layers.values()
    sizes = (layer["op"], layer["input_grad"], layer["weight_grad"])
    assert sizes == ("matmul", True, False)
    assert_close(trace.values(layer["name"], "input"), a)
    assert_close(trace.values(layer["name"], "weight"), b.transpose(-1, -2))
    assert_close(trace.values(layer["name"], "grad_output"), output_gradient(y))


def test_a_weight_per_head_is_one_product_per_sample_and_head(folder):
    model = Function(lambda x, w: torch.einsum("bhid,hde->bhie", x, w), 3, 5, 6)
    x = torch.randn(2, 3, 4, 5)
    trace, y, _ = run_step(model, folder, (x,))
    (name,) = trace.layers
    assert_close(trace.values(name, "input"), x)
    assert_close(trace.values(name, "weight"), model.weight.transpose(1, 2).expand(2, 3, 6, 5))
    assert_close(trace.values(name, "grad_output"), output_gradient(y))


def test_a_module_that_is_called_twice_has_two_layers(folder):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(self.fc(x).relu())

    model = Model()
    x = torch.randn(3, 4)
    trace, y, capture = run_step(model, folder, (x,))
    capture.verify()
    assert list(trace.layers) == ["fc", "fc.call-1"]
    assert_close(trace.values("fc.call-1", "input"), model.fc(x).relu())
    assert_close(trace.values("fc.call-1", "grad_output"), output_gradient(y))


def test_tied_weights_have_one_layer_per_call(folder):
    """opacus#413: tied parameters."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    trace, _, capture = run_step(model, folder, (torch.randn(3, 4),))
    capture.verify()
    assert list(trace.layers) == ["0", "2"]


def test_weight_norm_writes_the_computed_weight(folder):
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 3, 3))
    trace, _, capture = run_step(nn.Sequential(conv), folder, (torch.randn(2, 2, 5, 5),))
    assert list(trace.layers) == ["0"]
    assert_close(trace.values("0", "weight"), conv.weight)
    assert [row.parameter for row in capture.verify()] == ["0"]


def test_operands_are_copied_before_they_change_in_place(folder):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("state", torch.ones(2, 4))
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            with torch.no_grad():
                self.state.copy_(x)
            # A frozen layer saves no input, so the change is allowed.
            y = F.linear(self.state, self.fc.weight.detach()) + self.fc(x)
            self.state.zero_()
            return y

    x = torch.randn(2, 4)
    with pytest.warns(UserWarning, match="captured without dY"):
        trace, _, _ = run_step(Model(), folder, (x,))
    assert_close(trace.values("linear", "input"), x)
