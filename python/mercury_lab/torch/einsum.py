"""Reads `einsum` and `tensordot` of two operands as products."""

import math
from string import ascii_letters

from torch import Tensor

from .errors import Unsupported
from .naming import find_parameter
from .products import Product


def read_einsum(y, equation, *operands) -> list[Product]:
    """Reads `einsum`; an equation without a product, such as a transposition, gives none."""
    if not isinstance(equation, str):
        raise Unsupported("its operands are given as lists of dimensions; give an equation")
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    if len(operands) == 1:
        return []
    if len(operands) > 2:
        raise Unsupported(f"it has {len(operands)} operands; write it as products of two")
    terms, output = expand_equation(equation.replace(" ", ""), operands)
    return read_product(terms, output, operands)


def read_tensordot(y, a, b, dims=2, out=None) -> list[Product]:
    """Reads `tensordot`."""
    if isinstance(dims, int):
        dims = (list(range(a.dim() - dims, a.dim())), list(range(dims)))
    left = list(ascii_letters[: a.dim()])
    right = list(ascii_letters[a.dim() : a.dim() + b.dim()])
    for left_axis, right_axis in zip(*dims, strict=True):
        right[right_axis] = left[left_axis]
    output = [letter for letter in left if letter not in right] + [
        letter for letter in right if letter not in left
    ]
    return read_product([left, right], output, (a, b))


def expand_equation(
    equation: str, operands: tuple[Tensor, ...]
) -> tuple[list[list[str]], list[str]]:
    """Splits an equation into the letters of each operand and of the output, without ellipsis."""
    inputs, arrow, output = equation.partition("->")
    terms = inputs.split(",")
    free = [letter for letter in ascii_letters if letter not in equation]
    broadcast = max(
        operand.dim() - len(term.replace("...", "")) for term, operand in zip(terms, operands)
    )
    names = free[:broadcast]
    expanded = []
    for term, operand in zip(terms, operands):
        width = operand.dim() - len(term.replace("...", ""))
        expanded.append(list(term.replace("...", "".join(names[len(names) - width :]))))
    if arrow:
        return expanded, list(output.replace("...", "".join(names)))
    letters = "".join(inputs.replace("...", "").split(","))
    return expanded, names + sorted(letter for letter in set(letters) if letters.count(letter) == 1)


def read_product(
    terms: list[list[str]], output: list[str], operands: tuple[Tensor, ...]
) -> list[Product]:
    """Reads a contraction of two tensors; the letters name their dimensions."""
    left, right = terms
    tensors = list(operands)
    if find_parameter(tensors[0]) is not None and find_parameter(tensors[1]) is None:
        left, right = right, left
        tensors.reverse()
    if len(set(left)) < len(left) or len(set(right)) < len(right):
        raise Unsupported("an operand repeats a letter; take the diagonal first")
    shared = [letter for letter in left if letter in right]
    batch = [letter for letter in shared if letter in output]
    inner = [letter for letter in shared if letter not in output]
    rows = [letter for letter in left if letter not in shared]
    columns = [letter for letter in right if letter not in shared]
    if any(letter not in output for letter in rows + columns):
        raise Unsupported("it sums a dimension of one operand alone; sum before")
    sizes = dict(zip(left, tensors[0].shape)) | dict(zip(right, tensors[1].shape))
    if any(
        dict(zip(term, tensor.shape))[letter] != sizes[letter]
        for term, tensor in ((left, tensors[0]), (right, tensors[1]))
        for letter in term
    ):
        raise Unsupported("an operand is broadcast over a letter; expand it before")
    if not inner and not columns:
        return []
    layout = Layout(left, right, output, batch, rows, columns, inner, sizes)
    return [layout.as_linear(*tensors) if not batch else layout.as_matmul(*tensors)]


class Layout:
    """The roles of the letters of a contraction."""

    def __init__(self, left, right, output, batch, rows, columns, inner, sizes) -> None:
        self.left, self.right, self.output = left, right, output
        self.batch, self.rows, self.columns, self.inner = batch, rows, columns, inner
        self.sizes = sizes

    def size(self, letters: list[str]) -> int:
        """Counts the elements of these dimensions."""
        return math.prod(self.sizes[letter] for letter in letters)

    def as_linear(self, x: Tensor, w: Tensor) -> Product:
        """No dimension is shared with the output: the right operand is a weight."""
        shape = [self.sizes[letter] for letter in self.rows]

        def to_grad(gradient: Tensor) -> Tensor:
            return permute(gradient, self.output, self.rows + self.columns).reshape(
                *shape, self.size(self.columns)
            )

        left = permute(x, self.left, self.rows + self.inner).reshape(*shape, self.size(self.inner))
        weight = permute(w, self.right, self.columns + self.inner)
        # A view, where possible, so that the weight's parameter is found.
        return Product(
            "linear",
            left,
            flatten(weight, self.size(self.columns), self.size(self.inner)),
            to_grad,
            part="einsum",
        )

    def as_matmul(self, x: Tensor, w: Tensor) -> Product:
        """Products for each index of the shared dimensions; samples come first in X."""
        first = self.left[0]
        lead = list(self.batch)
        if first in self.rows:
            # The weight is shared by all samples; each sample meets its own copy.
            lead.insert(0, first)
        elif first != lead[0]:
            raise Unsupported("the first dimension of its left operand is not that of the samples")
        rows = [letter for letter in self.rows if letter not in lead]
        shape = [self.sizes[letter] for letter in lead]
        height, width = self.size(rows), self.size(self.columns)

        def to_grad(gradient: Tensor) -> Tensor:
            return permute(gradient, self.output, lead + rows + self.columns).reshape(
                *shape, height, width
            )

        left = permute(x, self.left, lead + rows + self.inner).reshape(
            *shape, height, self.size(self.inner)
        )
        weight = permute(w, self.right, self.batch + self.columns + self.inner)
        weight = weight.reshape(
            *(self.sizes[letter] for letter in self.batch), width, self.size(self.inner)
        )
        weight = weight.expand(*shape, width, self.size(self.inner))
        return Product(
            "matmul",
            left,
            weight,
            to_grad,
            part="einsum",
            input_grad=x.requires_grad,
            weight_grad=w.requires_grad,
        )


def permute(tensor: Tensor, letters: list[str], order: list[str]) -> Tensor:
    """Reorders dimensions."""
    return tensor.permute([letters.index(letter) for letter in order])


def flatten(tensor: Tensor, rows: int, columns: int) -> Tensor:
    """Makes a matrix, as a view if possible."""
    try:
        return tensor.view(rows, columns)
    except RuntimeError:
        return tensor.reshape(rows, columns)
