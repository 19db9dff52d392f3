"""Counts the multiplications of a step's matrix products, and measures the machine's rate."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_callbacks

# Side of the square matrices that measure the machine's rate: 16 MB each, larger than caches.
SQUARE = 2_048

_KINDS = ("MatMul", "BatchMatMulV2", "Einsum")


@dataclasses.dataclass(frozen=True)
class Product:
    """One executed op that multiplies two float matrices, or stacks of them.

    Attributes:
      kind: Name of the op: `MatMul`, `BatchMatMulV2` or `Einsum`.
      shapes: Shapes of both operands.
      attributes: Attributes of the op: transpositions, or an equation.
    """

    kind: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    attributes: tuple[tuple[str, Any], ...] = ()

    @property
    def flops(self) -> int:
        """Floating-point operations: two for each multiplication with its addition."""
        left, right = self.shapes
        attributes = dict(self.attributes)
        if self.kind == "Einsum":
            sizes: dict[str, int] = {}
            terms = attributes["equation"].partition("->")[0].split(",")
            for term, shape in zip(terms, self.shapes, strict=True):
                for label, size in zip(_labels(term, len(shape)), shape, strict=True):
                    sizes[label] = max(size, sizes.get(label, 1))
            return 2 * math.prod(sizes.values())
        is_transposed = attributes.get("transpose_b") or attributes.get("adj_y")
        columns = right[-2] if is_transposed else right[-1]
        batch = np.broadcast_shapes(left[:-2], right[:-2])
        return 2 * math.prod(batch) * left[-2] * left[-1] * columns

    def op(self) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """Returns the same op as a function of operands with these shapes."""
        attributes = dict(self.attributes)
        if self.kind == "Einsum":
            return lambda a, b: tf.raw_ops.Einsum(inputs=[a, b], **attributes)
        if self.kind == "MatMul":
            return lambda a, b: tf.raw_ops.MatMul(a=a, b=b, **attributes)
        return lambda a, b: tf.raw_ops.BatchMatMulV2(x=a, y=b, **attributes)


def _labels(term: str, rank: int) -> str:
    """Returns a letter for each dimension; those behind `...` are counted from the right."""
    hidden = range(rank - len(term.replace("...", "")), 0, -1)
    return term.replace("...", "".join(map(str, hidden)))


def record_products(function: Callable[[], Any]) -> list[Product]:
    """Records the matrix products that a function executes, also those of gradients.

    The function runs eagerly, op by op, so that branches and shapes are those of its real input.
    Products with a sparse matrix are not counted.

    Args:
      function: A function that computes with TensorFlow.

    Returns:
      The products, in order of execution.
    """
    found: list[Product] = []

    def see(
        kind: str,
        inputs: tuple[tf.Tensor, ...],
        attributes: Any,
        outputs: Any,
        op_name: str | None = None,
        graph: tf.Graph | None = None,
    ) -> None:
        del outputs, op_name, graph
        if kind in _KINDS and len(inputs) == 2 and inputs[0].dtype.is_floating:
            shapes = (tuple(inputs[0].shape), tuple(inputs[1].shape))
            found.append(Product(kind, shapes, _attributes(kind, attributes)))

    is_eager = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    op_callbacks.add_op_callback(see)
    try:
        function()
    finally:
        op_callbacks.remove_op_callback(see)
        tf.config.run_functions_eagerly(is_eager)
    return found


def _attributes(kind: str, attributes: Any) -> tuple[tuple[str, Any], ...]:
    """Selects the attributes that define the product from TensorFlow's list of names and values."""
    wanted = {
        "MatMul": ("transpose_a", "transpose_b"),
        "BatchMatMulV2": ("adj_x", "adj_y"),
        "Einsum": ("equation",),
    }[kind]
    values = dict(zip(attributes[::2], attributes[1::2], strict=True))
    pairs = ((name, values[name]) for name in wanted)
    return tuple((n, v.decode() if isinstance(v, bytes) else v) for n, v in pairs)


def square_product(side: int = SQUARE) -> Product:
    """Makes a product of two square matrices."""
    return Product(
        "MatMul", ((side, side), (side, side)), (("transpose_a", False), ("transpose_b", False))
    )


class ProductTimer:
    """Times products on float32 matrices of random numbers, one op after the other, warm."""

    def __init__(self, products: list[Product], seed: int = 0):
        """Makes the operands, which equal products share.

        Args:
          products: The products; equal ones count as often as they occur.
          seed: Seed of the random numbers.
        """
        rng = np.random.default_rng(seed)
        self._counts = {product: products.count(product) for product in products}
        self._calls: dict[Product, Callable[[], tf.Tensor]] = {}
        for product in self._counts:
            a, b = (tf.constant(rng.standard_normal(s, np.float32)) for s in product.shapes)
            self._calls[product] = functools.partial(product.op(), a, b)
            self._calls[product]()

    @property
    def flops(self) -> int:
        """Floating-point operations of all products together."""
        return sum(count * product.flops for product, count in self._counts.items())

    def seconds(self) -> float:
        """Measures the seconds that all products take, one after the other."""
        total = 0.0
        for product, count in self._counts.items():
            started = time.perf_counter()
            for _ in range(count):
                result = self._calls[product]()
            result.numpy()
            total += time.perf_counter() - started
        return total
