"""Losses of embeddings and of margins, and compositions that PyTorch leaves to its users."""

import torch
import torch.nn.functional as F

from common import Cases

c = Cases("contrasts")
REDUCTIONS = ("mean", "sum", "none")


def signs(*shape):
    return 1 - 2 * c.ints(*shape, low=0, high=2)


def floated(function):
    """With the target, which has no gradient here, as floats."""
    return lambda x, *y, **k: function(x, *y[:-1], y[-1].double(), **k)


with_weight = lambda f: lambda x, y, w, **k: f(x, y, weight=w.detach(), **k)
# ---- embeddings and margins
for reduction in REDUCTIONS:
    for shape in [(3, 4), (5, 2), (4,)]:
        c.add("cosine_embedding_loss", F.cosine_embedding_loss, [c.normal(*shape), c.normal(*shape), signs(*shape[:-1])], reduction=reduction)
    c.add("cosine_embedding_loss", F.cosine_embedding_loss, [c.normal(4, 3), c.normal(4, 3), signs(4)], margin=0.25, reduction=reduction)
    for keyword in [{}, dict(margin=0.5, p=1.0), dict(swap=True), dict(p=3.0, eps=0.125, swap=True)]:
        c.add("triplet_margin_loss", F.triplet_margin_loss, [c.normal(3, 4), c.normal(3, 4), c.normal(3, 4)], reduction=reduction, **keyword)
    for shape, margin in [((4,), 0.0), ((2, 3), 0.5), ((), 1.0)]:
        c.add("margin_ranking_loss", floated(F.margin_ranking_loss), [c.normal(*shape), c.normal(*shape), signs(*shape)], margin=margin, reduction=reduction)
        c.add("hinge_embedding_loss", F.hinge_embedding_loss, [c.normal(*shape), signs(*shape)], margin=1.0 - margin, reduction=reduction)
    for keyword in [{}, dict(p=2), dict(margin=0.5)]:
        c.add("multi_margin_loss", F.multi_margin_loss, [c.normal(3, 4), c.ints(3, high=4)], reduction=reduction, **keyword)
    c.add("multi_margin_loss", with_weight(F.multi_margin_loss), [c.normal(3, 4), c.ints(3, high=4), c.uniform(4, low=0.5)], reduction=reduction)
    c.add("multi_margin_loss", F.multi_margin_loss, [c.normal(4), c.ints(high=4)], reduction=reduction)
    c.add("multilabel_margin_loss", F.multilabel_margin_loss, [c.normal(3, 4), torch.tensor([[3, 0, -1, 1], [-1, 0, 1, 2], [0, 1, 2, 3]])], reduction=reduction)
    c.add("multilabel_margin_loss", F.multilabel_margin_loss, [c.normal(4), torch.tensor([2, -1, 2, 3])], reduction=reduction)
    c.add("multilabel_margin_loss", F.multilabel_margin_loss, [c.normal(2, 3), torch.tensor([[1, 1, -1], [2, 0, -1]])], reduction=reduction)
c.refuse("cosine_embedding_loss", F.cosine_embedding_loss, [c.normal(3, 4), c.normal(3, 4), signs(4)])
c.refuse("cosine_embedding_loss", F.cosine_embedding_loss, [c.normal(3, 4), c.normal(3, 4), signs(3, 1)])
c.refuse("triplet_margin_loss", F.triplet_margin_loss, [c.normal(3, 4), c.normal(3, 4), c.normal(4)])
c.refuse("triplet_margin_loss", F.triplet_margin_loss, [c.normal(3, 4)] * 3, margin=0.0)
c.refuse("margin_ranking_loss", floated(F.margin_ranking_loss), [c.normal(3), c.normal(3), signs(3, 1)])
c.refuse("multi_margin_loss", F.multi_margin_loss, [c.normal(3, 4), c.ints(3, high=4)], p=3)
c.refuse("multi_margin_loss", F.multi_margin_loss, [c.normal(3, 4), c.ints(4, high=4)])
c.refuse("multilabel_margin_loss", F.multilabel_margin_loss, [c.normal(3, 4), c.ints(3, 3, high=3)])


# ---- compositions that PyTorch leaves to its users; the focal loss is torchvision's formula
def focal(x, y, alpha=0.25, gamma=2.0, reduction="none"):
    p = torch.sigmoid(x)
    wrong = 1 - (p * y + (1 - p) * (1 - y))
    loss = F.binary_cross_entropy_with_logits(x, y, reduction="none") * wrong**gamma
    loss = loss * (alpha * y + (1 - alpha) * (1 - y)) if alpha >= 0 else loss
    return dict(none=loss, mean=loss.mean(), sum=loss.sum())[reduction]


def dice(x, y, dims, smooth, reduction="mean"):
    loss = 1 - (2 * (x * y).sum(dims) + smooth) / (x.sum(dims) + y.sum(dims) + smooth)
    return dict(none=loss, mean=loss.mean(), sum=loss.sum())[reduction]


def info_nce(a, b, temperature):
    return F.cross_entropy(F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T / temperature, torch.arange(len(a)))


def clip(a, b, scale):
    logits = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T * scale
    return (F.cross_entropy(logits, torch.arange(len(a))) + F.cross_entropy(logits.T, torch.arange(len(a)))) / 2


for reduction in REDUCTIONS:
    for keyword in [{}, dict(alpha=0.75, gamma=1.0), dict(alpha=-1.0, gamma=3.0), dict(gamma=0.5)]:
        c.add("sigmoid_focal_loss", focal, [c.normal(2, 3, scale=2.0), c.ints(2, 3, high=2).double()], reduction=reduction, **keyword)
    for dims in ([1], [2, 3], [1, 2, 3]):
        shape = (2, 3) if dims == [1] else (2, 2, 2, 3)
        c.add("dice_loss", dice, [c.uniform(*shape, low=0.0), c.ints(*shape, high=2).double()], dims=dims, smooth=1.0, reduction=reduction)
for (n, m), temperature in zip([(2, 2), (3, 3), (3, 5), (1, 1), (1, 4), (4, 4), (5, 6), (2, 3)], (1.0, 0.5, 0.25, 0.1) * 2):
    c.add("info_nce", info_nce, [c.normal(n, 4), c.normal(m, 4)], temperature=temperature)
    c.add("clip_loss", clip, [c.normal(n, 3), c.normal(n, 3), c.uniform(low=1.0, high=9.0)])
c.refuse("info_nce", info_nce, [c.normal(2, 3), c.normal(2, 4)], temperature=1.0)
c.refuse("clip_loss", clip, [c.normal(2, 3), c.normal(2, 4), c.uniform()])

c.save()
