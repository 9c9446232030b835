"""What a forward and a backward pass hold beside the model states, from shapes alone.

The model runs once on tensors that have shapes and no memory, so whatever it is made of, and
whatever of it is frozen or checkpointed, counts as what it is; 7 B take seconds on a laptop. The
kernels are those of the CPU: of attention that means, as on a GPU, the fused one where the model
uses it. Short texts in 16 bits have plain attention, which keeps a little more than a GPU would.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ml.memory.states import Precision


@dataclass(frozen=True)
class Activations:
    """Bytes beside weights and optimiser.

    `saved`: what the forward pass keeps for the backward. `logits`: the most that tensors as wide
    as the vocabulary take at any time. `profile`: from one gradient to the next, the bytes of all
    gradients so far and the most that lived beside those.
    """

    saved: int
    logits: int
    profile: tuple[tuple[int, int], ...]

    def peak(self, *, before: int = 0, share: float = 0.0, after: int = 0) -> int:
        """The most at any time with what a rank keeps of gradients.

        `before`: bytes that are there from the start. `share`: of each gradient, once it is whole.
        `after`: bytes that are there from the first whole gradient on.
        """
        (_, first), *rest = self.profile
        kept = [after + round(share * gradients) + live for gradients, live in rest]
        return before + max(first, *kept)

    def continued(self, other: Activations, steps: int) -> Activations:
        """`steps` times as far from this as `other` is: all bytes lie on a line."""

        def on(one: int, two: int) -> int:
            return one + steps * (two - one)

        profile = tuple(
            (gradients, on(live, other_live))
            for (gradients, live), (_, other_live) in zip(self.profile, other.profile, strict=True)
        )
        return Activations(on(self.saved, other.saved), on(self.logits, other.logits), profile)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, for as long as they live."""

    def __init__(self, vocabulary: int = 0) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._logits = self.logits_peak = 0
        self._vocabulary = vocabulary
        self._known: set[int] = set()

    def knows(self, tensor: Tensor) -> None:
        """A tensor from before, which is not to be counted."""
        self._known.add(tensor.untyped_storage()._cdata)

    def holds(self, tensor: Tensor) -> None:
        """A tensor from before, which counts from now on."""
        self._add(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.device.type != "meta":
                self._add(tensor)
        return made

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        logits = size if tensor.dim() > 1 and tensor.shape[-1] == self._vocabulary else 0
        self._change(size, logits)
        weakref.finalize(storage, self._remove, key, size, logits)

    def _remove(self, key: int, size: int, logits: int) -> None:
        self._known.discard(key)
        self._change(-size, -logits)

    def _change(self, size: int, logits: int) -> None:
        self.live += size
        self.peak = max(self.peak, self.live)
        self._logits += logits
        self.logits_peak = max(self.logits_peak, self._logits)


def activations(
    model: nn.Module,
    loss: Callable[[], Tensor],
    *,
    precision: Precision,
    vocabulary: int,
    fake: FakeTensorMode | None = None,
    zero_3: bool = False,
) -> Activations:
    """Run `loss` forward and backward over `model`, and count. Gradients are left as None.

    `zero_3`: with the linear function that DeepSpeed puts in place of torch's in stage 3. It keeps
    the inputs of frozen layers, too.
    """
    live = LiveBytes(vocabulary)
    for tensor in (*model.parameters(), *model.buffers()):
        live.knows(tensor)
    profile: list[tuple[int, int]] = []
    gradients = 0

    def drop(parameter: Tensor) -> None:
        nonlocal gradients
        assert parameter.grad is not None
        profile.append((gradients, live.peak))
        gradients += parameter.grad.untyped_storage().nbytes()
        parameter.grad = None
        live.peak = live.live

    trained = [p for p in model.parameters() if p.requires_grad]
    hooks = [p.register_post_accumulate_grad_hook(drop) for p in trained]
    try:
        with fake or nullcontext(), live, _linear_of_zero_3() if zero_3 else nullcontext():
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16_autocast"):
                value = loss()
            saved = live.live
            value.backward()
    finally:
        for hook in hooks:
            hook.remove()
    return Activations(saved, live.logits_peak, (*profile, (gradients, live.peak)))


@contextmanager
def _linear_of_zero_3() -> Iterator[None]:
    with redirect_stdout(sys.stderr):  # where DeepSpeed would log from now on
        from deepspeed.runtime.zero.linear import zero3_linear_wrap

    with patch.object(nn.functional, "linear", zero3_linear_wrap):
        yield


def without_memory(model: nn.Module, precision: Precision) -> FakeTensorMode:
    """Make a model on the meta device one whose tensors say that they are on the CPU.

    On the meta device attention would be planned as its slow path. Weights become those of the
    precision. The model is of no other use afterwards; what it is called with is to be made inside
    the mode that is returned.
    """
    fake = FakeTensorMode()
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    made: dict[Tensor, Tensor] = {}

    def empty(tensor: Tensor) -> Tensor:
        kind = dtype if dtype and tensor.is_floating_point() else tensor.dtype
        new: Tensor = torch.empty_strided(tensor.shape, tensor.stride(), dtype=kind)
        if isinstance(tensor, nn.Parameter):
            new = nn.Parameter(new, requires_grad=tensor.requires_grad)
        return new

    with fake:
        for module in model.modules():
            for tensors in (module._parameters, module._buffers):
                for name, tensor in tensors.items():
                    if tensor is not None:
                        made.setdefault(tensor, empty(tensor))
                        tensors[name] = made[tensor]  # type: ignore[assignment]
    return fake
