import numpy as np
import pytest
import tensorflow as tf

from benchmarks.matrix_products import Product, ProductTimer, record_products, square_product


def test_products_of_forward_and_backward_by_hand():
    x = tf.ones([5, 3])
    kernel = tf.Variable(tf.ones([3, 7]))

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.matmul(x, kernel) ** 2)
        return tape.gradient(loss, kernel)

    products = record_products(step)

    # x K is [5, 3] [3, 7]; the kernel's gradient x^T g is [3, 5] [5, 7]; x needs none.
    assert [p.flops for p in products] == [2 * 5 * 3 * 7] * 2
    assert sum(np.prod(p.shapes[0]) for p in products) == 5 * 3 * 2


@pytest.mark.parametrize(
    ("make", "flops"),
    [
        (lambda: tf.matmul(tf.ones([4, 2]), tf.ones([6, 4]), True, True), 2 * 2 * 4 * 6),
        (lambda: tf.matmul(tf.ones([9, 2, 4]), tf.ones([9, 5, 4]), transpose_b=True), 2 * 9 * 40),
        (lambda: tf.matmul(tf.ones([9, 2, 4]), tf.ones([1, 4, 5])), 2 * 9 * 40),
        (lambda: tf.einsum("bkhe,hea->bkha", tf.ones([2, 3, 4, 5]), tf.ones([4, 5, 6])), 2 * 720),
        (lambda: tf.einsum("...i,ij->...j", tf.ones([2, 3, 4]), tf.ones([4, 5])), 2 * 120),
        (lambda: tf.cond(tf.constant(True), lambda: tf.matmul(*[tf.eye(3)] * 2), lambda: 0.0), 54),
    ],
    ids=["transposed", "batch", "broadcast", "einsum", "ellipsis", "branch"],
)
def test_flops_of_one_product_by_hand(make, flops):
    (product,) = record_products(make)

    assert product.flops == flops
    # The timed op is the recorded one.
    operands = [tf.ones(shape) for shape in product.shapes]
    assert ProductTimer([product]).seconds() > 0
    assert tf.size(product.op()(*operands)) == tf.size(make())


def test_nothing_is_recorded_of_integers_or_afterwards():
    assert record_products(lambda: tf.matmul(*[tf.ones([2, 2], tf.int32)] * 2)) == []
    products = record_products(lambda: None)
    tf.matmul(tf.ones([2, 2]), tf.ones([2, 2]))
    assert products == []


def test_equal_products_count_as_often_as_they_are_there():
    small = Product("MatMul", ((2, 3), (3, 4)), (("transpose_a", False), ("transpose_b", False)))

    assert ProductTimer([small, square_product(8), small]).flops == 2 * 48 + 1024
