"""The front end as ONNX nodes: from a target's input tensor to the grid PTYNet's folded first convolution reads.

One `AveragePool` over whole windows, which leaves out partial ones by itself. Reducing rows and columns one after the other takes
half the time in a loop of its own, yet 20 us more beside a target at 224x224, where all of it comes from memory; and a
`Reshape` of the input is a copy, since onnxruntime may not share memory with an input.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from ptynet_plugin.errors import TargetError
from ptynet_plugin.images.frontend import FrontEnd, Side
from ptynet_plugin.network.onnx_builder import GraphBuilder, reduce_mean, slice_axis
from ptynet_plugin.network.weights import GRID

__all__ = ["DYNAMIC_OPSET", "add_front_end"]

DYNAMIC_OPSET = 11
"""Lowest opset whose `Resize` maps cell centres."""


def add_front_end(b: GraphBuilder, pictures: str, front_end: FrontEnd, *, dtype: str, where: str) -> str:
    """Add the front end.

    Args:
        b: Where the nodes go.
        pictures: The target's input, as `front_end` describes it.
        front_end: The plan.
        dtype: Element type of the input, in numpy's words.
        where: How messages name the target.

    Returns:
        The grid's name: float32, shape (rows, channels, GRID, GRID), input channel order and values.

    Raises:
        TargetError: Height or width is dynamic and the target's opset has no suitable operator.
    """
    if dtype != "float32":
        pictures = b.cast(pictures, TensorProto.FLOAT, label="input_float32")
    if front_end.rows is None or front_end.columns is None:
        return _dynamic(b, pictures, front_end, where=where)
    if front_end.channels_last:
        value = _pool_channels_last(b, pictures, front_end.rows, front_end.columns, front_end.channels)
    else:
        value = _pool(b, pictures, front_end.rows, front_end.columns)
    return _resize(b, value, front_end.rows, front_end.columns)


def _pool(b: GraphBuilder, value: str, rows: Side, columns: Side) -> str:
    window = [rows.window, columns.window]
    if window == [1, 1]:
        return value
    return b.op("AveragePool", value, label="pool", kernel_shape=window, strides=window)


def _pool_channels_last(b: GraphBuilder, value: str, rows: Side, columns: Side, channels: int) -> str:
    if rows.used != rows.pixels:
        value = slice_axis(b, value, 0, rows.used, axis=1, label="used_rows")
    if columns.used != columns.pixels:
        value = slice_axis(b, value, 0, columns.used, axis=2, label="used_columns")
    if rows.window > 1:
        shape = b.integers("lines_shape", [-1, rows.window, columns.used * channels])
        value = reduce_mean(b, b.op("Reshape", value, shape, label="lines"), 1, label="pool_rows")
    if columns.window > 1:
        shape = b.integers("cells_shape", [-1, columns.window, channels])
        value = reduce_mean(b, b.op("Reshape", value, shape, label="cells"), 1, label="pool_columns")
    if rows.window > 1 or columns.window > 1:
        shape = b.integers("pooled_shape", [-1, rows.cells, columns.cells, channels])
        value = b.op("Reshape", value, shape, label="pooled_channels_last")
    return b.op("Transpose", value, label="channels_first", perm=[0, 3, 1, 2])


def _resize(b: GraphBuilder, value: str, rows: Side, columns: Side) -> str:
    if columns.resized:
        value = b.op("MatMul", value, b.constant("column_weights", columns.matrix().T), label="resize_columns")
    if rows.resized:
        value = b.op("MatMul", b.constant("row_weights", rows.matrix()), value, label="resize_rows")
    return value


def _dynamic(b: GraphBuilder, value: str, front_end: FrontEnd, *, where: str) -> str:
    if b.opset < DYNAMIC_OPSET:
        raise TargetError(
            f"{where}: height and width are dynamic, which needs opset {DYNAMIC_OPSET} or higher, it has {b.opset}; "
            f"convert it with --to-opset {DYNAMIC_OPSET}, or give `size = [height, width]` in the spec"
        )
    if front_end.channels_last:
        value = b.op("Transpose", value, label="channels_first", perm=[0, 3, 1, 2])
    size = slice_axis(b, b.op("Shape", value, label="shape"), 2, 4, axis=0, label="size")
    grid = b.integers("grid", [GRID])
    short = b.op("Less", size, grid, label="short")
    window = b.op("Where", short, b.integers("one", [1]), b.op("Div", size, grid, label="windows"), label="window")
    cells = b.op("Div", size, window, label="cell_counts")
    pooled = _dynamic_pool(b, value, cells, window, front_end.channels)
    return _dynamic_resize(b, pooled)


def _dynamic_pool(b: GraphBuilder, value: str, cells: str, window: str, channels: int) -> str:
    used = b.op("Mul", cells, window, label="used")
    value = b.op("Slice", value, b.integers("origin", [0, 0]), used, b.integers("sides", [2, 3]), label="used_part")
    sides = b.op("Concat", cells, window, label="sides_apart", axis=0)
    paired = b.op("Gather", sides, b.integers("pairing", [0, 2, 1, 3]), label="sides_paired", axis=0)
    shape = b.op("Concat", b.integers("rows_and_channels", [0, channels]), paired, label="windows_shape", axis=0)
    value = reduce_mean(b, b.op("Reshape", value, shape, label="windowed"), 3, label="pool_rows")
    return reduce_mean(b, value, 4, label="pool_columns")


def _dynamic_resize(b: GraphBuilder, value: str) -> str:
    outer = slice_axis(b, b.op("Shape", value, label="pooled_shape"), 0, 2, axis=0, label="outer")
    sizes = b.op("Concat", outer, b.integers("grid_size", [GRID, GRID]), label="grid_shape", axis=0)
    nothing = "" if b.opset >= 13 else b.constant("no_scales", np.zeros(0, dtype=np.float32))
    return b.op(
        "Resize",
        value,
        nothing,
        nothing,
        sizes,
        label="resized",
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )
