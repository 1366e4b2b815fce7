"""Blocks of a network, the places they see, and the cut in front of its last stage."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

_CANNOT_SPLIT = "This backbone cannot be cut in front of its last stage; train all of it: trainable='all'."


class CannotSplitError(ValueError):
    """A backbone has no place where a single value crosses from its lower layers to its last stage."""


def list_blocks(body: nn.Module) -> dict[str, nn.Module]:
    """List the blocks of a network without its classifier, by name; a stack of stages one by one."""
    blocks: dict[str, nn.Module] = {}
    for name, child in body.named_children():
        # Architectures differ in what they call a stack of stages, not in its type.
        is_stack = isinstance(child, nn.Sequential | nn.ModuleList)
        blocks |= {f"{name}.{key}": part for key, part in child.named_children()} if is_stack else {name: child}
    return blocks


def record_outputs(blocks: dict[str, nn.Module], run: Callable[[], Any]) -> tuple[Any, list[tuple[str, Any]]]:
    """Run something, and record what each block gives, in the order in which they run."""
    outputs: list[tuple[str, Any]] = []
    hooks = [
        block.register_forward_hook(lambda block, inputs, output, name=name: outputs.append((name, output)))
        for name, block in blocks.items()
    ]
    try:
        return run(), outputs
    finally:
        for hook in hooks:
            hook.remove()


def find_map(value: Any, n_prefix: int = 0) -> torch.Tensor | None:
    """View what a block gives (maps in any order, or tokens) as (n, channels, side, side); None without places."""
    if not isinstance(value, torch.Tensor) or value.ndim not in (3, 4):
        return None
    if value.ndim == 4:
        is_first = value.shape[2] == value.shape[3]
        value = value if is_first else value.permute(0, 3, 1, 2)
        return value if value.shape[2] == value.shape[3] > 1 else None
    side = math.isqrt(max(0, value.shape[1] - n_prefix))
    if side < 2 or side**2 != value.shape[1] - n_prefix:
        return None
    return value[:, n_prefix:].transpose(1, 2).unflatten(2, (side, side))


def split_backbone(body: nn.Module, im_size_px: int) -> tuple[nn.Module, nn.Module]:
    """Split a network in front of its last stage: most time is in the first part, many weights in the second.

    The last stage follows the last map of a higher resolution, as timm describes it; where all have one (most
    transformers) it is the last quarter of the blocks. Both parts are the network's own modules: who trains one, trains
    it.
    """
    device = next(body.parameters()).device
    example = torch.rand(1, 3, im_size_px, im_size_px, device=device, generator=torch.Generator(device).manual_seed(0))
    with torch.inference_mode():
        cut = _find_cut(body.eval(), example)
        first, second = _cut_after(body, cut)
        try:
            is_same = torch.allclose(second(first(example)), body(example), rtol=1e-3, atol=1e-4)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise CannotSplitError(_CANNOT_SPLIT) from error
    if not is_same:
        raise CannotSplitError(_CANNOT_SPLIT)
    return first, second


def _find_cut(body: Any, example: torch.Tensor) -> str:
    """Find the module after which the last stage begins."""
    stages = [(entry["module"], entry["reduction"]) for entry in getattr(body, "feature_info", [])]
    if not stages:  # not of timm: look how large the maps are
        values = record_outputs(list_blocks(body), lambda: body(example))[1]
        stages = [(name, -view.shape[-1]) for name, value in values if (view := find_map(value)) is not None]
    higher = [name for name, reduction in stages if reduction < stages[-1][1]]
    if not higher and len(stages) < 4:
        raise CannotSplitError(_CANNOT_SPLIT)
    return higher[-1] if higher else stages[-1 - len(stages) // 4][0]


def _cut_after(body: nn.Module, cut: str) -> tuple[nn.Module, nn.Module]:
    """Cut a network behind one of its modules."""
    whole, cut = nn.Sequential(body), f"0.{cut}"  # what else its forward takes than images has its default
    tracer: Any = fx.Tracer()
    # It follows the network down to that module, and leaves all others whole, whatever they compute.
    tracer.is_leaf_module = lambda module, name: not cut.startswith(f"{name}.")
    try:
        graph = tracer.trace(whole)
        node = [node for node in graph.nodes if node.op == "call_module" and node.target == cut][-1]
    except Exception as error:  # what a forward does to a stand-in for images can fail in any way
        raise CannotSplitError(_CANNOT_SPLIT) from error
    parts = []
    for is_second in (False, True):
        part, copies = fx.Graph(), dict[fx.Node, Any]()
        output = part.graph_copy(graph, copies)
        start, end = copies[next(iter(graph.nodes))], copies[node]
        if is_second:
            with part.inserting_before(end):
                start = part.placeholder("activations")
            end.replace_all_uses_with(start)
        part.output(output if is_second else end)
        for copied in reversed(list(part.nodes)):  # what the part does not need
            if not copied.users and copied.op != "output" and copied is not start:
                part.erase_node(copied)
        if [copied for copied in part.nodes if copied.op == "placeholder"] != [start]:
            raise CannotSplitError(_CANNOT_SPLIT)  # more than one value crosses the cut
        parts.append(fx.GraphModule(whole, part))
    return parts[0], parts[1]
