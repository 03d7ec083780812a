"""Cases for `tests/all/oracle`: inputs, PyTorch's float64 results and gradients, in one small file a group.

    from common import Cases
    c = Cases("conv")
    c.add("conv2d", F.conv2d, [c.normal(2, 3, 8, 8), c.normal(4, 3, 3, 3)], stride=2)
    c.refuse("conv2d", F.conv2d, [c.normal(2, 3, 8, 8), c.normal(4, 2, 3, 3)])
    c.save()

Floats are drawn as float32 values and computed with in float64. Every output is weighted with the
fixed numbers of `weights` and summed; the gradients are those of that sum.
"""

import json
import os
import struct

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))


def weights(shape, output):
    """The weights of output number `output` in the scalar whose gradients are taken."""
    count = int(np.prod(shape))
    return torch.tensor([((k * 37 + 11 * output) % 101 - 50) / 50 for k in range(count)], dtype=torch.float64).reshape(shape)


def _exact(values):
    """Numbers that float32 holds, as float64."""
    return torch.as_tensor(np.asarray(values, dtype=np.float32).astype(np.float64))


class Cases:
    def __init__(self, group, seed=0):
        self.group, self.seed = group, seed
        self.rng = np.random.default_rng(seed)
        self.cases, self.tensors = [], {}

    # ---- inputs
    def normal(self, *shape, scale=1.0):
        return _exact(self.rng.standard_normal(shape) * scale)

    def uniform(self, *shape, low=-1.0, high=1.0):
        return _exact(self.rng.uniform(low, high, shape))

    def distinct(self, *shape, step=0.25):
        """Shuffled numbers no two of which are equal or near: for maxima and sorts."""
        count = int(np.prod(shape))
        return _exact((self.rng.permutation(count) - count // 2) * step).reshape(shape)

    def ints(self, *shape, low=0, high=10):
        return torch.as_tensor(self.rng.integers(low, high, shape))

    def bools(self, *shape):
        return torch.as_tensor(self.rng.integers(0, 2, shape)).bool()

    # ---- cases
    def add(self, op, function, inputs, *, call=None, grad=True, tol=None, **attrs):
        """One case. `attrs` go to `function` as keywords (or to `call`'s, where the names differ in Rust) and into the file."""
        inputs = [torch.as_tensor(x) for x in inputs]
        leaves = [x.to(torch.float32).to(torch.float64).requires_grad_(grad) if x.is_floating_point() else x for x in inputs]
        outputs = function(*leaves, **(attrs if call is None else call))
        outputs = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
        index = len(self.cases)
        floats = [x for x in leaves if x.is_floating_point()]
        terms = [(y * weights(tuple(y.shape), i)).sum() for i, y in enumerate(outputs) if y.is_floating_point() and y.requires_grad]
        grads = []
        if terms and floats:
            sum(terms).backward()
            grads = [torch.zeros_like(x) if x.grad is None else x.grad for x in floats]
        for kind, arrays in (("in", leaves), ("out", outputs), ("grad", grads)):
            for i, array in enumerate(arrays):
                self.tensors[f"{index}.{kind}{i}"] = array.detach().numpy()
        self.cases.append(dict(op=op, attrs=attrs, inputs=len(leaves), outputs=len(outputs), grads=len(grads), tol=tol))

    def refuse(self, op, function, inputs, *, call=None, **attrs):
        """An input that PyTorch refuses; wgrad must too."""
        inputs = [torch.as_tensor(x) for x in inputs]
        try:
            function(*inputs, **(attrs if call is None else call))
        except (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError, AssertionError) as error:
            kind = lambda x: "f32" if x.is_floating_point() else "bool" if x.dtype == torch.bool else "i32"
            shapes = [dict(shape=list(x.shape), dtype=kind(x)) for x in inputs]
            self.cases.append(dict(op=op, attrs=attrs, refused=str(error).splitlines()[0][:200], operands=shapes))
            return
        raise SystemExit(f"{op}: PyTorch accepts {[tuple(x.shape) for x in inputs]} with {attrs}")

    def save(self):
        header, blobs, at = {}, [], 0
        for name, array in self.tensors.items():
            if array.dtype == np.float64 or array.dtype == np.float32:
                array, dtype = array.astype("<f4"), "F32"
            elif array.dtype == bool:
                array, dtype = array.astype(np.uint8), "BOOL"
            else:
                array, dtype = array.astype("<i4"), "I32"
            blob = array.tobytes()
            header[name] = dict(dtype=dtype, shape=list(array.shape), data_offsets=[at, at + len(blob)])
            blobs.append(blob)
            at += len(blob)
        header["__metadata__"] = dict(cases=json.dumps(self.cases), torch=torch.__version__.split("+")[0], seed=str(self.seed))
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        path = os.path.join(HERE, "ops", f"{self.group}.safetensors")
        with open(path, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))
        print(f"{self.group}: {len(self.cases)} cases, {os.path.getsize(path)} bytes")
