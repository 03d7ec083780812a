"""Sorting, running sums, and reading and writing by index."""

import torch
import torch.nn.functional as F

from common import Cases

c = Cases("index")

# ---- running sums and extremes
for shape, dim in [((1,), 0), ((5,), 0), ((3, 4), 0), ((3, 4), 1), ((2, 3, 5), -2), ((4, 33), -1), ((0, 3), 0), ((2, 1, 6), 2)]:
    c.add("cumsum", torch.cumsum, [c.normal(*shape)], dim=dim)
    c.add("cumsum", torch.cumsum, [c.ints(*shape, low=-9, high=9)], dim=dim)
    c.add("logcumsumexp", torch.logcumsumexp, [c.normal(*shape, scale=3.0)], dim=dim)
    for op in ("cummax", "cummin"):
        # Equal elements: the last one is named.
        c.add(op, getattr(torch, op), [c.ints(*shape, low=0, high=4).double()], dim=dim)
for shape, dim, zeros in [((1,), 0, 0), ((5,), 0, 1), ((3, 4), 0, 0), ((3, 4), 1, 2), ((2, 3, 5), -2, 3), ((4, 9), -1, 2), ((0, 3), 0, 0), ((2, 1, 6), 2, 12)]:
    x = c.normal(*shape)
    x.view(-1)[:zeros] = 0
    c.add("cumprod", torch.cumprod, [x], dim=dim)
for op in ("cumsum", "cumprod", "cummax", "logcumsumexp"):
    c.refuse(op, getattr(torch, op), [c.normal(2, 3)], dim=2)

# ---- sorting
SORTED = [((1,), 0), ((7,), 0), ((3, 5), 0), ((3, 5), -1), ((2, 3, 4), 1), ((2, 70), 1), ((0, 4), 0), ((3, 1), 1)]
for shape, dim in SORTED:
    for descending in (False, True):
        c.add("sort", torch.sort, [c.distinct(*shape)], dim=dim, descending=descending)
        ties = c.ints(*shape, low=-2, high=3)
        c.add("argsort", torch.argsort, [ties], call=dict(dim=dim, descending=descending, stable=True), dim=dim, descending=descending)
inf, nan = float("inf"), float("nan")
special = torch.tensor([0.0, -inf, nan, 1.0, -0.0, inf, -1.0, nan, 1e-40, -1e-40])
for descending in (False, True):
    call = dict(dim=0, descending=descending, stable=True)
    c.add("argsort", torch.argsort, [special], call=call, grad=False, dim=0, descending=descending)
c.refuse("sort", torch.sort, [c.normal(2, 3)], dim=2)
for shape, k, dim in [((1,), 1, 0), ((7,), 3, 0), ((3, 5), 2, 0), ((3, 5), 5, -1), ((2, 3, 4), 1, 1), ((2, 70), 9, 1), ((4,), 0, 0), ((3, 6), 4, 1)]:
    for largest in (True, False):
        c.add("topk", torch.topk, [c.distinct(*shape)], k=k, dim=dim, largest=largest)
c.refuse("topk", torch.topk, [c.normal(2, 3)], k=4, dim=1)
for shape, k, dim in [((1,), 1, 0), ((7,), 3, 0), ((3, 5), 2, 0), ((3, 5), 5, -1), ((2, 3, 4), 1, 1), ((2, 70), 9, 1), ((4,), 4, 0), ((3, 6), 4, 1)]:
    c.add("kthvalue", torch.kthvalue, [c.distinct(*shape)], k=k, dim=dim)
    c.add("median", torch.median, [c.distinct(*shape)], dim=dim)
    c.add("argmax", torch.argmax, [c.distinct(*shape)], dim=dim)
    c.add("argmin", torch.argmin, [c.distinct(*shape)], dim=dim)
c.refuse("kthvalue", torch.kthvalue, [c.normal(2, 3)], k=4, dim=1)
c.refuse("kthvalue", torch.kthvalue, [c.normal(2, 3)], k=0, dim=1)
c.refuse("median", torch.median, [c.normal(0)], dim=0)

# ---- reading by index
for shape, dim, n in [((5,), 0, 3), ((5, 4), 0, 7), ((5, 4), 1, 2), ((2, 5, 3), 1, 6), ((2, 5, 3), -1, 1), ((1, 4), 0, 3), ((6, 2), -2, 0), ((3, 3, 2, 2), 2, 3)]:
    index = c.ints(n, low=0, high=shape[dim])
    c.add("index_select", lambda x, i, dim: torch.index_select(x, dim, i), [c.normal(*shape), index], dim=dim)
for shape, its, dim in [((5,), (3,), 0), ((5, 4), (7, 4), 0), ((5, 4), (2, 6), 1), ((2, 5, 3), (2, 9, 1), 1), ((2, 5, 3), (1, 2, 7), -1),
                        ((3, 4), (0, 4), 0), ((4, 4), (4, 4), 1), ((1, 6), (1, 6), 1)]:
    index = c.ints(*its, low=0, high=shape[dim])
    c.add("gather", lambda x, i, dim: torch.gather(x, dim, i), [c.normal(*shape), index], dim=dim)
c.refuse("gather", lambda x, i, dim: torch.gather(x, dim, i), [c.normal(3, 4), c.ints(4, 4, low=0, high=4)], dim=1)
c.refuse("gather", lambda x, i, dim: torch.gather(x, dim, i), [c.normal(3, 4), c.ints(4, low=0, high=3)], dim=1)
c.refuse("gather", lambda x, i, dim: torch.gather(x, dim, i), [c.normal(3, 4), c.normal(3, 4)], dim=1)
for shape, its, dim in [((5,), (3,), 0), ((5, 4), (1, 4), 0), ((5, 4), (5, 1), 1), ((2, 5, 3), (1, 9, 3), 1), ((1, 5, 3), (4, 2, 3), 1),
                        ((5, 1), (5, 3), 1), ((4, 4), (4, 4), 1), ((1, 6), (3, 2), 1)]:
    index = c.ints(*its, low=0, high=shape[dim])
    c.add("take_along_dim", lambda x, i, dim: torch.take_along_dim(x, i, dim), [c.normal(*shape), index], dim=dim)
c.refuse("take_along_dim", lambda x, i, dim: torch.take_along_dim(x, i, dim), [c.normal(3, 4), c.ints(2, 4, low=0, high=3)], dim=1)

# ---- writing by index
for shape, its, src, dim in [((5,), (3,), (3,), 0), ((5, 4), (7, 4), (7, 4), 0), ((5, 4), (2, 6), (2, 6), 1), ((2, 5, 3), (2, 9, 1), (2, 9, 1), 1),
                             ((2, 5, 3), (1, 2, 7), (1, 2, 7), -1), ((3, 4), (0, 4), (0, 4), 0), ((4, 4), (4, 4), (4, 4), 1), ((1, 6), (1, 20), (1, 20), 1)]:
    index = c.ints(*its, low=0, high=shape[dim])
    c.add("scatter_add", lambda x, i, s, dim: torch.scatter_add(x, dim, i, s), [c.normal(*shape), index, c.normal(*src)], dim=dim)
# A larger source is cut; PyTorch has no gradient for that.
c.add("scatter_add", lambda x, i, s, dim: torch.scatter_add(x, dim, i, s), [c.normal(5, 4), c.ints(2, 6, high=4), c.normal(3, 8)], grad=False, dim=1)
for its in [(3, 5), (4, 5)]:
    c.refuse("scatter_add", lambda x, i, s, dim: torch.scatter_add(x, dim, i, s), [c.normal(3, 4), c.ints(*its), c.normal(3, 4)], dim=1)
for shape, dim, n in [((5,), 0, 3), ((5, 4), 0, 7), ((5, 4), 1, 2), ((2, 5, 3), 1, 6), ((2, 5, 3), -1, 1), ((1, 4), 0, 3), ((6, 2), -2, 0), ((3, 3, 2, 2), 2, 3)]:
    index, src = c.ints(n, low=0, high=shape[dim]), list(shape)
    src[dim] = n
    c.add("index_add", lambda x, i, s, dim: torch.index_add(x, dim, i, s), [c.normal(*shape), index, c.normal(*src)], dim=dim)
c.refuse("index_add", lambda x, i, s, dim: torch.index_add(x, dim, i, s), [c.normal(3, 4), c.ints(2, high=3), c.normal(3, 4)], dim=0)

# One index for each place, as PyTorch's gradient wants it.
for shape, its, dim in [((5,), (3,), 0), ((5, 4), (4, 4), 0), ((5, 4), (2, 3), 1), ((2, 5, 3), (2, 4, 1), 1), ((2, 5, 3), (1, 2, 3), -1), ((3, 4), (0, 4), 0), ((4, 4), (4, 4), 1), ((1, 6), (1, 6), 1)]:
    order = torch.as_tensor(c.rng.random(its[:dim % len(its)] + (shape[dim],) + its[dim % len(its) + 1 :])).argsort(dim)
    index = order.narrow(dim, 0, its[dim])
    c.add("scatter", lambda x, i, s, dim: torch.scatter(x, dim, i, s), [c.normal(*shape), index, c.normal(*its)], dim=dim)
    line = index.flatten()[:1].tolist() if its[0] == 0 else sorted(set(index.flatten().tolist()))
    size = list(shape)
    size[dim] = len(line)
    c.add("index_copy", lambda x, i, s, dim: torch.index_copy(x, dim, i, s), [c.normal(*shape), torch.tensor(line, dtype=torch.int64), c.normal(*size)], dim=dim)
c.refuse("scatter", lambda x, i, s, dim: torch.scatter(x, dim, i, s), [c.normal(3, 4), c.ints(4, 4), c.normal(4, 4)], dim=1)

# ---- counting
for shape, classes in [((), 3), ((5,), 4), ((2, 3), 6), ((1,), 1), ((0,), 3), ((4, 1), 2), ((2, 2, 2), 5), ((9,), 9)]:
    c.add("one_hot", lambda x, classes: F.one_hot(x, classes), [c.ints(*shape, low=0, high=classes)], classes=classes)
    flat = c.ints(max(1, 2 * classes), low=0, high=classes)
    c.add("bincount", lambda x, bins: torch.bincount(x, minlength=bins), [flat], bins=classes + 2)
for n, bins, low, high in [(20, 4, -2.0, 2.0), (1, 1, -1.0, 1.0), (50, 7, 0.0, 1.0), (30, 3, -3.0, 0.0), (9, 16, -2.0, 2.0), (64, 2, -0.5, 0.5), (5, 5, -5.0, 5.0), (40, 10, -1.0, 3.0)]:
    c.add("histc", lambda x, bins, low, high: torch.histc(x, bins, low, high), [c.normal(n)], grad=False, bins=bins, low=low, high=high)
for boundaries, values, right in [((5,), (7,), False), ((5,), (2, 3), True), ((2, 6), (2, 4), False), ((2, 6), (2, 4), True), ((1,), (3,), False),
                                  ((8,), (), True), ((3, 2, 5), (3, 2, 1), False), ((9,), (9,), True)]:
    edges, x = c.ints(*boundaries, low=0, high=6).sort(-1).values, c.ints(*values, low=-1, high=7)
    c.add("searchsorted", lambda s, v, right: torch.searchsorted(s, v, right=right), [edges, x], right=right)
    line = edges if edges.dim() == 1 else edges.flatten().sort().values
    c.add("bucketize", lambda v, s, right: torch.bucketize(v, s, right=right), [x, line], right=right)
c.refuse("searchsorted", lambda s, v: torch.searchsorted(s, v), [c.normal(2, 3), c.normal(3, 4)])

# Where an infinity is, PyTorch's gradients are NaN here and there; a case in Rust holds ours finite.
INF = float("inf")
LINES = torch.tensor([[-INF, -INF, 1.0, 2.0, -INF, 0.5, 3.0], [-INF] * 7, [1.0, INF, -INF, 0.0, INF, 2.0, 1.0]])
for dim in (0, 1):
    c.add("logcumsumexp", torch.logcumsumexp, [LINES], dim=dim, grad=False)
c.add("logcumsumexp", torch.logcumsumexp, [torch.tensor([-3e38, -1e31, 5.0])], dim=0, grad=False)

c.save()
