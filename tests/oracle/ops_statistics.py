"""What is made of reductions: variances, products, norms and distances."""

import math

import torch
import torch.nn.functional as F

from common import Cases

c = Cases("statistics")
AXES = [((5,), [0]), ((2, 3), [0]), ((2, 3), [1]), ((2, 3), [-1]), ((2, 3, 4), [0, 2]), ((2, 3, 4), [1, -1]), ((4, 2), [0]), ((3, 1, 2), [0, 1, 2])]
for shape, dims in AXES:
    for correction in (0, 1):
        c.add("var", torch.var, [c.normal(*shape)], dim=dims, correction=correction)
        c.add("std", torch.std, [c.normal(*shape)], dim=dims, correction=correction)
    c.add("logsumexp", torch.logsumexp, [c.normal(*shape, scale=4.0)], dim=dims)
    for op in ("all", "any"):
        c.add(op, getattr(torch, op), [c.ints(*shape, low=0, high=2)], dim=dims)
        c.add(op, getattr(torch, op), [c.bools(*shape)], dim=dims)
    for p in (2.0, 1.0, 0.0, math.inf, -math.inf, 3.0, 0.5):
        order = str(p) if math.isinf(p) else p
        c.add("vector_norm", torch.linalg.vector_norm, [c.normal(*shape)], ord=order, dim=dims, call=dict(ord=p, dim=dims))
c.add("std", torch.std, [torch.zeros(3)], dim=[0], correction=1)
c.add("logsumexp", torch.logsumexp, [torch.tensor([100.0, 99.0, -100.0])], dim=[0])
for p in (2.0, 1.0, 3.0, 1.5):
    c.add("vector_norm", torch.linalg.vector_norm, [torch.zeros(3)], ord=p, dim=[0])
    c.add("vector_norm", torch.linalg.vector_norm, [torch.tensor([0.0, 2.0, -2.0])], ord=p, dim=[0])

for shape, dim in [((5,), 0), ((2, 3), 0), ((2, 3), 1), ((2, 3), -1), ((2, 0), 1), ((1, 4), 0), ((2, 3, 2), 1), ((7, 1), 0)]:
    c.add("prod", torch.prod, [c.uniform(*shape, low=0.5, high=2.0)], dim=dim)
c.add("prod", torch.prod, [torch.tensor([[0.0, 2.0, 3.0], [0.0, 0.0, 3.0], [1.0, 2.0, 4.0]])], dim=1)
c.add("prod", torch.prod, [c.ints(3, 4, low=-3, high=4)], dim=1)
c.refuse("prod", torch.prod, [c.normal(2, 3)], dim=2)
c.refuse("vector_norm", torch.linalg.vector_norm, [c.normal(2, 3)], ord=2.0, dim=[2])
c.refuse("logsumexp", torch.logsumexp, [c.normal(2, 3)], dim=[2])

for a, b, dim in [((2, 3), (2, 3), 1), ((2, 3), (2, 3), 0), ((5,), (5,), 0), ((2, 3), (3,), -1), ((2, 1, 3), (1, 4, 3), 2), ((2, 3), (1, 3), 0), ((1, 2), (1, 2), 1), ((3, 2, 2), (3, 2, 2), 1)]:
    c.add("cosine_similarity", F.cosine_similarity, [c.normal(*a), c.normal(*b)], dim=dim)
c.add("cosine_similarity", F.cosine_similarity, [c.normal(2, 3, scale=0.01), c.normal(2, 3)], dim=1, eps=0.5)
c.add("cosine_similarity", F.cosine_similarity, [torch.zeros(2, 3), c.normal(2, 3)], dim=1)
c.refuse("cosine_similarity", F.cosine_similarity, [c.normal(2, 3), c.normal(2, 4)], dim=1)
for a, b in [((2, 3), (2, 3)), ((3,), (3,)), ((2, 3), (3,)), ((1, 4), (3, 4)), ((2, 2, 3), (2, 2, 3)), ((1, 1), (1, 1)), ((4, 2), (4, 2)), ((2, 5), (1, 5))]:
    c.add("pairwise_distance", F.pairwise_distance, [c.normal(*a), c.normal(*b)])
c.add("pairwise_distance", F.pairwise_distance, [c.normal(2, 3), c.normal(2, 3)], p=1.0)
c.add("pairwise_distance", F.pairwise_distance, [c.normal(2, 3), c.normal(2, 3)], p=3.0, eps=0.125)
c.refuse("pairwise_distance", F.pairwise_distance, [c.normal(2, 3), c.normal(2, 4)])
for a, b in [((2, 3), (4, 3)), ((1, 1), (1, 1)), ((5, 2), (1, 2)), ((2, 3, 2), (2, 2, 2)), ((1, 3, 2), (2, 2, 2)), ((0, 3), (2, 3)), ((3, 4), (3, 4)), ((2, 1, 2, 3), (3, 2, 3))]:
    c.add("cdist", torch.cdist, [c.normal(*a), c.normal(*b)])
same = c.normal(3, 2)
c.add("cdist", torch.cdist, [same, same])
c.add("cdist", torch.cdist, [c.normal(2, 3), c.normal(4, 3)], p=1.0)
c.add("cdist", torch.cdist, [c.normal(2, 3), c.normal(4, 3)], p=3.0)
c.refuse("cdist", torch.cdist, [c.normal(2, 3), c.normal(2, 4)])
c.refuse("cdist", torch.cdist, [c.normal(3), c.normal(2, 3)])
c.refuse("cdist", torch.cdist, [c.normal(2, 3), c.normal(2, 3)], p=-1.0)
for shape, dim in [((2, 3), 1), ((2, 3), 0), ((5,), 0), ((2, 3, 2), 1), ((2, 2), -1), ((1, 4), 1), ((0, 2), 1), ((3, 1), 1)]:
    c.add("normalize", F.normalize, [c.normal(*shape)], dim=dim)
c.add("normalize", F.normalize, [c.normal(2, 3)], p=1.0, dim=1)
c.add("normalize", F.normalize, [c.normal(2, 3, scale=0.1)], p=2.0, dim=1, eps=1.0)

# Where an infinity is, PyTorch's gradients are NaN here and there; a case in Rust holds ours finite.
INF = float("inf")
LINES = torch.tensor([[-INF, -INF, -INF], [INF, 0.0, -INF], [-INF, 1.0, 2.0], [INF, INF, 0.0], [1000.0, INF, 1.0]])
for dim in ([0], [1], [0, 1]):
    c.add("logsumexp", torch.logsumexp, [LINES], dim=dim, grad=False)
c.add("logsumexp", torch.logsumexp, [torch.tensor([[-INF, 1.0, 2.0], [0.5, -INF, -INF]])], dim=[1])
c.add("logsumexp", torch.logsumexp, [torch.zeros(2, 0)], dim=[1])
c.add("logsumexp", torch.logsumexp, [torch.zeros(2, 0)], dim=[0])

c.save()
