"""Products of matrices, tables of vectors, movement of elements, comparisons; the norm without means."""

import torch
import torch.nn.functional as F

from common import Cases

c = Cases("structure")

# ---- products
for a, b in [((2, 3), (3, 4)), ((1, 1), (1, 1)), ((5, 7), (7, 1)), ((3, 2, 4), (4, 5)), ((3, 2, 4), (3, 4, 5)), ((1, 2, 4), (3, 4, 2)),
             ((2, 1, 3, 2), (3, 2, 4)), ((9, 17), (17, 8)), ((0, 3), (3, 2))]:
    c.add("matmul", torch.matmul, [c.normal(*a), c.normal(*b)])
c.refuse("matmul", torch.matmul, [c.normal(2, 3), c.normal(4, 2)])
c.refuse("matmul", torch.matmul, [c.normal(2, 3, 4), c.normal(3, 4, 2)])
for x, rows, columns in [((2, 3), 3, 4), ((3,), 3, 2), ((2, 2, 3), 3, 1), ((1, 5), 5, 5), ((4, 8), 8, 3), ((2, 1, 2, 3), 3, 2), ((17, 9), 9, 12), ((0, 3), 3, 2)]:
    c.add("linear", lambda x, w, b: F.linear(x, w.T, b), [c.normal(*x), c.normal(rows, columns), c.normal(columns)])
c.refuse("linear", lambda x, w, b: F.linear(x, w.T, b), [c.normal(2, 4), c.normal(3, 2), c.normal(2)])
c.refuse("linear", lambda x, w, b: F.linear(x, w.T, b), [c.normal(2, 3), c.normal(3, 2), c.normal(3)])
for index, rows, width in [((4,), 5, 3), ((2, 3), 4, 2), ((), 3, 4), ((1,), 1, 1), ((8,), 2, 3), ((2, 2, 2), 7, 5), ((0,), 3, 2), ((33,), 17, 4)]:
    c.add("embedding", lambda w, i: F.embedding(i, w), [c.normal(rows, width), c.ints(*index, high=rows)])
c.refuse("embedding", lambda w, i: F.embedding(i, w), [c.normal(3, 2), c.normal(4)])

# ---- movement
for shape, to in [((6,), [2, 3]), ((2, 3), [3, 2]), ((2, 3, 4), [6, 4]), ((4,), [4, 1]), ((1,), []), ((), [1, 1]), ((2, 0), [0, 5]), ((3, 4), [12])]:
    c.add("reshape", lambda x, shape: x.reshape(shape), [c.normal(*shape)], shape=to)
c.refuse("reshape", lambda x, shape: x.reshape(shape), [c.normal(2, 3)], shape=[4, 2])
for shape, axes in [((2, 3), [1, 0]), ((2, 3, 4), [2, 0, 1]), ((2, 3, 4), [0, 2, 1]), ((5,), [0]), ((1, 4, 1), [2, 1, 0]), ((2, 3, 2, 3), [3, 1, 0, 2]), ((0, 3), [1, 0]), ((17, 9), [1, 0])]:
    c.add("permute", lambda x, axes: x.permute(axes), [c.normal(*shape)], axes=axes)
c.refuse("permute", lambda x, axes: x.permute(axes), [c.normal(2, 3)], axes=[0, 0])
c.refuse("permute", lambda x, axes: x.permute(axes), [c.normal(2, 3)], axes=[0])
for shape, a, b in [((2, 3), 0, 1), ((2, 3, 4), 0, 2), ((2, 3, 4), -1, -2), ((2, 3, 4), 1, 1), ((1, 5), 0, 1), ((2, 3, 4, 5), 1, -1), ((0, 3), 0, 1), ((4,), 0, 0)]:
    c.add("transpose", lambda x, a, b: x.transpose(a, b), [c.normal(*shape)], a=a, b=b)
c.refuse("transpose", lambda x, a, b: x.transpose(a, b), [c.normal(2, 3)], a=0, b=2)
for shape, start, end in [((2, 3), 0, -1), ((2, 3, 4), 1, -1), ((2, 3, 4), 0, 1), ((2, 3, 4), 1, 1), ((5,), 0, 0), ((2, 1, 3, 2), 1, 2), ((0, 3), 0, 1), ((2, 3, 4), -2, -1)]:
    c.add("flatten", lambda x, start, end: x.flatten(start, end), [c.normal(*shape)], start=start, end=end)
c.refuse("flatten", lambda x, start, end: x.flatten(start, end), [c.normal(2, 3)], start=1, end=0)
for shape, axis in [((2, 1), 1), ((1,), 0), ((1, 3), 0), ((2, 1, 3), -2), ((1, 1), -1), ((4, 1, 1), 2), ((0, 1), 1), ((1, 1, 1), 1)]:
    c.add("squeeze", lambda x, axis: x.squeeze(axis), [c.normal(*shape)], axis=axis)
for shape, axis in [((2,), 0), ((2,), 1), ((2,), -1), ((), 0), ((2, 3), 1), ((2, 3), -3), ((0,), 1), ((2, 3, 4), 3)]:
    c.add("unsqueeze", lambda x, axis: x.unsqueeze(axis), [c.normal(*shape)], axis=axis)
c.refuse("unsqueeze", lambda x, axis: x.unsqueeze(axis), [c.normal(2, 3)], axis=3)
for shape, to in [((3,), [2, 3]), ((2, 1), [2, 5]), ((), [4]), ((1,), [3]), ((1, 3, 1), [2, 3, 4]), ((2, 3), [2, 3]), ((1, 4), [0, 4]), ((5, 1, 1), [5, 2, 3])]:
    c.add("broadcast_to", torch.broadcast_to, [c.normal(*shape)], size=to)
c.refuse("broadcast_to", torch.broadcast_to, [c.normal(2, 3)], size=[2, 4])
c.refuse("broadcast_to", torch.broadcast_to, [c.normal(2, 3)], size=[3])
for shape, axis, start, length in [((5,), 0, 1, 3), ((4, 3), 0, 2, 2), ((4, 3), 1, 0, 1), ((4, 3), -1, 1, 2), ((2, 3, 4), 1, 0, 3), ((4,), 0, 2, 0), ((1, 8), 1, 5, 3), ((17, 9), 0, 16, 1)]:
    c.add("narrow", torch.narrow, [c.normal(*shape)], dim=axis, start=start, length=length)
c.refuse("narrow", torch.narrow, [c.normal(5)], dim=0, start=3, length=3)
for shapes, axis in [([(2, 3), (2, 4)], 1), ([(2, 3), (1, 3)], 0), ([(2,), (3,), (1,)], 0), ([(2, 3)], 0), ([(2, 3), (2, 3)], -1), ([(2, 0), (2, 3)], 1),
                     ([(2, 1, 3), (2, 2, 3)], 1), ([(1, 2)] * 5, 0)]:
    c.add("cat", lambda *x, dim: torch.cat(x, dim), [c.normal(*shape) for shape in shapes], dim=axis)
c.refuse("cat", lambda *x, dim: torch.cat(x, dim), [c.normal(2, 3), c.normal(3, 3)], dim=1)
c.refuse("cat", lambda *x, dim: torch.cat(x, dim), [c.normal(2, 3), c.normal(2, 3)], dim=2)

# ---- comparisons
for a, b in [((), ()), ((5,), (5,)), ((2, 3), (3,)), ((4, 1), (1, 6)), ((2, 3, 4), (3, 1)), ((1,), (7,)), ((0, 3), (3,)), ((2, 1, 5), (4, 1))]:
    for op in ("eq", "ne", "lt", "le", "gt", "ge"):
        c.add(op, getattr(torch, op), [c.ints(*a, high=3).double(), c.ints(*b, high=3).double()], grad=False)
    for op in ("logical_and", "logical_or"):
        c.add(op, getattr(torch, op), [c.bools(*a), c.bools(*b)])
    c.add("logical_not", torch.logical_not, [c.bools(*b)])
for op in ("eq", "lt", "ge"):
    c.refuse(op, getattr(torch, op), [c.normal(2, 3), c.normal(4)])

# ---- the last axis by its root mean square
for shape in [(4,), (2, 3), (1, 1), (2, 3, 5), (7, 64), (3, 1, 9), (5, 33), (2, 2, 2, 8)]:
    c.add("rms_norm", lambda x, w, eps: F.rms_norm(x, (x.shape[-1],), w, eps), [c.normal(*shape), c.normal(shape[-1])], eps=1e-5)
c.refuse("rms_norm", lambda x, w, eps: F.rms_norm(x, (x.shape[-1],), w, eps), [c.normal(2, 3), c.normal(4)], eps=1e-5)

# ---- planes to a number
for shape in [(1, 1, 3), (2, 3, 5), (2, 3, 4, 4), (1, 2, 1, 1), (2, 1, 5, 3), (3, 2, 1, 7), (1, 4, 6, 6), (2, 2, 2, 3)]:
    axes = tuple(range(2, len(shape)))
    c.add("global_avg_pool", lambda x: x.mean(axes), [c.normal(*shape)])
    c.add("global_max_pool", lambda x: x.amax(axes), [c.distinct(*shape)])

c.save()
