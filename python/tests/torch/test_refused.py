"""Bad input: handled, or one clear exception that names module and operation; the training goes on."""

import mercury_lab.torch as mt
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tools import assert_close, run_step


class Square(torch.autograd.Function):
    """A custom function whose forward multiplies matrices."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        return gradient @ weight.t(), x.t() @ gradient


class Call(nn.Module):
    """Calls a function of an input and a weight in a module named `part`."""

    class Part(nn.Module):
        def __init__(self, function, shape):
            super().__init__()
            self.function, self.weight = function, nn.Parameter(torch.randn(shape))

        def forward(self, x):
            return self.function(x, self.weight)

    def __init__(self, function, *shape):
        super().__init__()
        self.part = self.Part(function, shape)

    def forward(self, x):
        return self.part(x)


def multiply_complex(x, w):
    return torch.view_as_real(torch.complex(x, x) @ torch.complex(w, w))


def multiply_sparse(x, w):
    return (w.to_sparse() @ x.t()).t()


REFUSED = {
    "conv3d": (lambda x, w: F.conv3d(x, w), (2, 3, 1, 1, 1), (2, 3, 2, 4, 4)),
    "conv_transpose1d": (lambda x, w: F.conv_transpose1d(x, w), (3, 2, 1), (2, 3, 4)),
    "conv_transpose2d": (lambda x, w: F.conv_transpose2d(x, w), (3, 2, 1, 1), (2, 3, 4, 4)),
    "bilinear": (lambda x, w: F.bilinear(x, x, w), (5, 4, 4), (2, 4)),
    "cdist": (lambda x, w: torch.cdist(x, w), (5, 4), (2, 4)),
    "matmul": (lambda x, w: Square.apply(x, w), (4, 5), (2, 4)),
    "matmul, complex": (multiply_complex, (4, 5), (2, 4)),
    "matmul, sparse": (multiply_sparse, (5, 4), (2, 4)),
    "einsum": (lambda x, w: torch.einsum("ij,jk,kl->il", x, w, w.t()), (4, 5), (2, 4)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_operations_are_named(name, folder):
    function, weight, shape = REFUSED[name]
    with pytest.raises(mt.IncompleteCapture) as caught:
        run_step(Call(function, *weight), folder, (torch.randn(shape),), verify=False)
    assert caught.value.module == "part"
    assert str(caught.value).startswith(f"{name.split(',')[0]} in module part: ")
    assert not folder.exists()


def test_a_weight_with_a_batch_dimension_is_refused(folder):
    """Experts: no dimension holds samples, even where the sizes agree."""
    with pytest.raises(mt.IncompleteCapture, match="bmm in module part: a weight has a batch dimension"):
        run_step(Call(torch.bmm, 2, 4, 5), folder, (torch.randn(2, 3, 4),))


def test_products_of_weights_alone_are_listed(folder):
    """Their sizes may agree with the batch, but they hold no samples."""

    class LowRank(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.up = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.randn(6, 2))

        def forward(self, x):
            return F.linear(x, self.up @ self.down)

    trace, _, capture = run_step(LowRank(), folder, (torch.randn(3, 4),))
    assert list(trace.layers) == ["linear"]
    assert "ignored: model.matmul in model.matmul: its input is a weight" in str(capture.coverage())


NORMS = [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm, nn.utils.parametrizations.orthogonal]


@pytest.mark.filterwarnings("ignore:capture. linalg_householder_product")
@pytest.mark.parametrize("norm", NORMS)
def test_a_spectral_norm_is_captured(norm, folder):
    model = nn.Sequential(norm(nn.Linear(6, 8)), nn.ReLU(), norm(nn.Conv1d(1, 2, 3)))
    trace, _, capture = run_step(model, folder, (torch.randn(4, 1, 6),))
    assert list(trace.layers) == ["0", "2"]
    capture.verify()


def test_a_weight_that_is_repeated_for_each_sample_is_an_input(folder):
    class Queries(nn.Module):
        def __init__(self):
            super().__init__()
            self.queries, self.fc = nn.Parameter(torch.randn(5, 4)), nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(self.queries.expand(len(x), 5, 4)) * x

    model = Queries()
    trace, _, capture = run_step(model, folder, (torch.randn(3, 1, 1),))
    capture.verify()
    assert_close(trace.values("fc", "input"), model.queries.expand(3, 5, 4))


def test_transformed_and_nested_tensors_are_refused(folder):
    class Mapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            return torch.func.vmap(self.fc)(x)

    with pytest.raises(
        mt.IncompleteCapture, match=r"linear in module fc: it runs inside a transformation of torch.func"
    ):
        run_step(Mapped(), folder, (torch.randn(3, 4),))

    class Nested(Mapped):
        def forward(self, x):
            nested = torch.nested.nested_tensor([x, x[:2]], layout=torch.jagged)
            return self.fc(nested).values()

    with pytest.raises(mt.IncompleteCapture, match="linear in module fc: an operand is a NestedTensor"):
        run_step(Nested(), folder, (torch.randn(3, 4),))


@torch.jit.script
def scripted(x, w):
    return torch.relu(x.mm(w))


def test_products_that_no_function_shows_are_found_by_the_audit(folder):
    with pytest.raises(mt.IncompleteCapture, match=r"mm in module part: it computes products outside"):
        run_step(Call(scripted, 4, 5), folder, (torch.randn(2, 4),))


def test_unknown_operations_are_reported(folder):
    @torch.library.custom_op("mercury_test::double", mutates_args=())
    def double(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    double.register_autograd(lambda ctx, gradient: gradient * 2)
    with pytest.warns(UserWarning, match="mercury_test::double in module part is not known"):
        _, _, capture = run_step(Call(lambda x, w: double(x @ w), 4, 5), folder, (torch.randn(2, 4),))
    assert [row.op for row in capture.coverage().unknown] == ["mercury_test::double"]
