"""Makes the functions of a SavedModel smaller: what they compute twice is computed once.

A traced function has a constant for every index of every slice, and a server reads each one and
keeps it in memory, in every signature that calls the function. TensorFlow's own optimizer merges
them when a session is made, for each signature anew and for seconds; here it is done once, when the
servable is written. Values do not change: only operations that are equal and without a state are
merged, and those whose results nobody reads are removed. So are TensorFlow's notes of shapes that
it infers itself: they are a fifth of the graph, of which a loaded version has several copies.
"""

import os
from collections.abc import Iterable

from tensorflow.core.framework import function_pb2, node_def_pb2, op_def_pb2, types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from trainer.contract.file_system import open_file, remove_file
from trainer.contract.whole_files import write_bytes

_SAVED_MODEL = "saved_model.pb"
# Attribute with the shapes of an operation's results. No session needs it; `tf.saved_model.load`
# infers most of them anew.
_SHAPES = "_output_shapes"
# TensorFlow's checksum of the file as it was before; nothing reads it, and it would be wrong.
_FINGERPRINT = "fingerprint.pb"


def compact_saved_model(directory: str) -> None:
    """Rewrites the functions of a SavedModel in place.

    Args:
      directory: Folder of the SavedModel.
    """
    path = os.path.join(directory, _SAVED_MODEL)
    with open_file(path, "rb") as file:
        model = saved_model_pb2.SavedModel.FromString(file.read())
    for graph in model.meta_graphs:
        for function in graph.graph_def.library.function:
            compact_function(function)
    write_bytes(path, model.SerializeToString(deterministic=True))
    remove_file(os.path.join(directory, _FINGERPRINT), missing_ok=True)


def compact_function(function: function_pb2.FunctionDef) -> None:
    """Merges equal operations of a function; removes those without readers, and notes of shapes.

    Args:
      function: Definition of the function; it is changed in place.
    """
    while _merge_equal(function):
        pass
    _remove_unread(function)
    _remove_shapes(function)


def _remove_shapes(function: function_pb2.FunctionDef) -> None:
    for holder in (*function.node_def, *function.arg_attr.values()):
        holder.attr.pop(_SHAPES, None)


def _merge_equal(function: function_pb2.FunctionDef) -> bool:
    """Merges equal operations once; returns whether any were equal."""
    controlling = set(_controlling(function))
    first: dict[bytes, str] = {}
    replaced: dict[str, str] = {}
    sources: dict[str, str] = {}
    for node in function.node_def:
        if node.name in controlling or not _is_pure(node):
            continue
        if node.op == "Identity":
            sources[f"{node.name}:output:0"] = node.input[0]
            continue
        earlier = first.setdefault(_content(node), node.name)
        if earlier != node.name:
            replaced[node.name] = earlier
    if not replaced and not sources:
        return False

    def renamed(reference: str) -> str:
        while reference in sources:
            reference = sources[reference]
        name, colon, output = reference.partition(":")
        return replaced.get(name, name) + colon + output

    removed = {*replaced, *(reference.partition(":")[0] for reference in sources)}
    kept = [node for node in function.node_def if node.name not in removed]
    for node in kept:
        node.input[:] = [renamed(reference) for reference in node.input]
    for name, reference in list(function.ret.items()):
        function.ret[name] = renamed(reference)
    _keep(function, kept)
    return True


def _remove_unread(function: function_pb2.FunctionDef) -> None:
    """Removes the operations without a state whose results nothing reads."""
    nodes = {node.name: node for node in function.node_def}
    open_names = [_name(reference) for reference in function.ret.values()]
    open_names += [*function.control_ret.values(), *_controlling(function)]
    open_names += [node.name for node in function.node_def if not _is_pure(node)]
    read: set[str] = set()
    while open_names:
        name = open_names.pop()
        if name in read or name not in nodes:  # an argument of the function
            continue
        read.add(name)
        open_names += [_name(reference) for reference in nodes[name].input]
    _keep(function, [node for node in function.node_def if node.name in read])


def _keep(function: function_pb2.FunctionDef, nodes: Iterable[node_def_pb2.NodeDef]) -> None:
    kept = [node_def_pb2.NodeDef.FromString(node.SerializeToString()) for node in nodes]
    del function.node_def[:]
    function.node_def.extend(kept)


def _controlling(function: function_pb2.FunctionDef) -> list[str]:
    """Returns the operations that others wait for without reading them."""
    waited = [
        reference[1:]
        for node in function.node_def
        for reference in node.input
        if reference.startswith("^")
    ]
    return waited + list(function.control_ret.values())


def _is_pure(node: node_def_pb2.NodeDef) -> bool:
    """Whether an operation has no state, no effect and no function of its own."""
    definition = op_def_registry.get(node.op)
    return (
        definition is not None
        and not definition.is_stateful
        and node.op not in ("Placeholder", "NoOp", "CheckNumerics")
        and not any(value.HasField("func") or value.list.func for value in node.attr.values())
        # TensorFlow does not mark every operation that changes a table as one with a state.
        and not _takes_resource(definition)
        and not any(reference.startswith("^") for reference in node.input)
    )


def _takes_resource(definition: op_def_pb2.OpDef) -> bool:
    return any(argument.type == types_pb2.DT_RESOURCE for argument in definition.input_arg)


def _content(node: node_def_pb2.NodeDef) -> bytes:
    """Returns what an operation computes, without its name and TensorFlow's notes about it."""
    content = node_def_pb2.NodeDef(op=node.op, input=node.input, device=node.device)
    for name, value in node.attr.items():
        if not name.startswith("_"):
            content.attr[name].CopyFrom(value)
    return content.SerializeToString(deterministic=True)


def _name(reference: str) -> str:
    return reference.lstrip("^").partition(":")[0]
