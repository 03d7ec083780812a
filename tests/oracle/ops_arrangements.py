"""Stacking, splitting, repeating, reversing; diagonals and triangles; tensors made from nothing."""

import torch

from common import Cases

c = Cases("arrangements")
for shape, count, dim in [((2, 3), 2, 0), ((2, 3), 2, 1), ((2, 3), 3, -1), ((), 2, 0), ((4,), 2, -2), ((0, 2), 2, 1), ((2,), 1, 0), ((1, 2, 2), 2, -3)]:
    c.add("stack", lambda *x, dim: torch.stack(x, dim), [c.normal(*shape) for _ in range(count)], dim=dim)
c.refuse("stack", lambda *x, dim: torch.stack(x, dim), [c.normal(2, 3), c.normal(3, 2)], dim=0)
c.refuse("stack", lambda *x, dim: torch.stack(x, dim), [c.normal(2, 3), c.normal(2, 3)], dim=3)

for shape, size, dim in [((5,), 2, 0), ((4, 3), 2, 0), ((4, 3), 2, 1), ((4, 3), 5, -1), ((2, 2, 6), 3, 2), ((0, 3), 2, 0), ((3,), 1, 0), ((3, 1), 1, -2)]:
    c.add("split", torch.split, [c.normal(*shape)], split_size_or_sections=size, dim=dim)
    c.add("chunk", torch.chunk, [c.normal(*shape)], chunks=size, dim=dim)
for sizes in ([1, 3, 2], [6], [0, 6], [2, 2, 2], [5, 1], [3, 0, 3], [1, 1, 4], [4, 2]):
    c.add("split_sizes", torch.split, [c.normal(2, 6)], split_size_or_sections=sizes, dim=1)
c.refuse("split_sizes", torch.split, [c.normal(2, 6)], split_size_or_sections=[2, 3], dim=1)
c.refuse("split", torch.split, [c.normal(2, 6)], split_size_or_sections=0, dim=1)
c.refuse("chunk", torch.chunk, [c.normal(2, 6)], chunks=0, dim=1)
c.refuse("chunk", torch.chunk, [c.normal(2, 6)], chunks=2, dim=2)

for shape, dim in [((3,), 0), ((2, 3), 0), ((2, 3), 1), ((2, 3), -1), ((2, 1, 2), 1), ((3, 0), 0), ((1, 4), 0), ((2, 2, 2), -3)]:
    c.add("unbind", torch.unbind, [c.normal(*shape)], dim=dim)
    c.add("select", torch.select, [c.normal(*shape)], dim=dim, index=-1)
    c.add("repeat_interleave", torch.repeat_interleave, [c.normal(*shape)], repeats=2, dim=dim)
    c.add("roll", torch.roll, [c.normal(*shape)], shifts=1, dims=dim)
    c.add("roll", torch.roll, [c.normal(*shape)], shifts=-4, dims=dim)
    c.add("flip", torch.flip, [c.normal(*shape)], dims=[dim])
    c.add("movedim", torch.movedim, [c.normal(*shape)], source=dim, destination=0)
c.add("flip", torch.flip, [c.normal(2, 3, 2)], dims=[0, 2])
c.add("flip", torch.flip, [c.normal(2, 3)], dims=[])
c.refuse("flip", torch.flip, [c.normal(2, 3)], dims=[0, 0])
c.refuse("flip", torch.flip, [c.normal(2, 3)], dims=[2])
c.refuse("select", torch.select, [c.normal(2, 3)], dim=0, index=2)
c.refuse("select", torch.select, [c.normal(2, 3)], dim=0, index=-3)
c.refuse("roll", torch.roll, [c.normal(2, 3)], shifts=1, dims=2)

for shape, sizes in [((3,), [2]), ((3,), [2, 2]), ((2, 3), [1, 2]), ((2, 3), [2, 1, 1]), ((), [3]), ((2, 1), [1, 3]), ((0, 2), [2, 2]), ((2, 2), [2, 0])]:
    c.add("repeat", lambda x, sizes: x.repeat(sizes), [c.normal(*shape)], sizes=sizes)
    c.add("tile", torch.tile, [c.normal(*shape)], dims=sizes)
c.add("tile", torch.tile, [c.normal(2, 3)], dims=[2])
c.refuse("repeat", lambda x, sizes: x.repeat(sizes), [c.normal(2, 3)], sizes=[2])

for shape, k in [((3, 3), 0), ((3, 3), 1), ((3, 3), -1), ((2, 4), 1), ((4, 2), -2), ((2, 2, 3), 0), ((3, 3), 5), ((0, 3), 0)]:
    c.add("tril", torch.tril, [c.normal(*shape)], diagonal=k)
    c.add("triu", torch.triu, [c.normal(*shape)], diagonal=k)
    c.add("diagonal", torch.diagonal, [c.normal(*shape)], offset=k, dim1=-2, dim2=-1)
c.add("diagonal", torch.diagonal, [c.normal(2, 3, 4)], offset=1, dim1=2, dim2=0)
c.add("diagonal", torch.diagonal, [c.normal(2, 3, 4)])
for shape, k in [((3,), 0), ((3,), 1), ((3,), -2), ((1,), 0), ((3, 3), 0), ((2, 4), 1), ((4, 2), -1), ((2, 3), 3)]:
    c.add("diag", torch.diag, [c.normal(*shape)], diagonal=k)
for shape, k in [((3,), 0), ((3,), 1), ((3,), -2), ((1,), 0), ((2, 3), 0), ((2, 3), -1), ((2, 1, 2), 2), ((0, 2), 0)]:
    c.add("diag_embed", torch.diag_embed, [c.normal(*shape)], offset=k)
for shape in [(3, 3), (2, 4), (4, 2), (1, 1), (1, 5), (5, 1), (7, 7), (3, 2)]:
    c.add("trace", torch.trace, [c.normal(*shape)])
c.refuse("trace", torch.trace, [c.normal(2, 3, 3)])
c.refuse("diag", torch.diag, [c.normal(2, 3, 3)])
c.refuse("tril", torch.tril, [c.normal(3)])
c.refuse("diagonal", torch.diagonal, [c.normal(3)])
c.refuse("diagonal", torch.diagonal, [c.normal(3, 3)], dim1=0, dim2=0)

for n, m in [(3, 3), (1, 4), (4, 1), (0, 2), (5, 2), (2, 5), (1, 1), (7, 3)]:
    c.add("outer", torch.outer, [c.normal(n), c.normal(m)])
    c.add("dot", torch.dot, [c.normal(n), c.normal(n)])
    c.add("kron", torch.kron, [c.normal(n, 2), c.normal(m)])
    c.add("meshgrid", lambda *x, indexing: torch.meshgrid(*x, indexing=indexing), [c.normal(n), c.normal(m)], indexing="ij" if n > m else "xy")
c.add("meshgrid", lambda *x, indexing: torch.meshgrid(*x, indexing=indexing), [c.normal(2), c.normal(3), c.normal(2)], indexing="ij")
c.refuse("outer", torch.outer, [c.normal(2, 2), c.normal(3)])
c.refuse("dot", torch.dot, [c.normal(2), c.normal(3)])
c.refuse("dot", torch.dot, [c.normal(2, 2), c.normal(2, 2)])

for start, end, step in [(0, 5, 1), (1, 6, 2), (5, 0, -1), (0.0, 1.0, 0.25), (0.5, -1.0, -0.5), (3, 3, 1), (-2, 2, 1), (0.0, 1.0, 0.3)]:
    c.add("arange", torch.arange, [], start=start, end=end, step=step, call=dict(start=start, end=end, step=step, dtype=torch.float64))
    c.add("linspace", torch.linspace, [], start=start, end=end, steps=int(10 * abs(step)) + 1, call=dict(start=start, end=end, steps=int(10 * abs(step)) + 1, dtype=torch.float64))
    n, m = int(abs(start)) + 1, int(abs(end)) + 1
    c.add("eye", torch.eye, [], n=n, m=m)
    c.add("full", torch.full, [], size=[n, m], fill_value=step, call=dict(size=[n, m], fill_value=float(step)))
c.refuse("arange", torch.arange, [], start=0, end=3, step=-1)
c.refuse("arange", torch.arange, [], start=0, end=3, step=0)

c.save()
