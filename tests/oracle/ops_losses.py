"""Losses of classes, probabilities and numbers: shapes, reductions, and every keyword."""

import torch
import torch.nn.functional as F

from common import Cases

c = Cases("losses")
REDUCTIONS = ("mean", "sum", "none")
SHAPES = [(3,), (2, 3), (), (2, 1, 2), (0, 2), (4, 2)]


def signs(*shape):
    return 1 - 2 * c.ints(*shape, low=0, high=2)


def logp(*shape):
    axis = 1 if len(shape) > 1 else 0
    return torch.as_tensor(torch.log_softmax(c.normal(*shape), axis).float().double())


def floated(function):
    """With the target, which has no gradient here, as floats."""
    return lambda x, *y, **k: function(x, *y[:-1], y[-1].double(), **k)


# ---- classes
def class_loss(op, function, draw):
    for shape in [(3, 4), (5,), (2, 3, 2), (2, 3, 2, 2), (1, 2)]:
        rows = shape[:1] + shape[2:] if len(shape) > 1 else ()
        for reduction in REDUCTIONS:
            c.add(op, function, [draw(*shape), c.ints(*rows, low=0, high=shape[min(1, len(shape) - 1)])], reduction=reduction)
    for reduction in REDUCTIONS:
        target = torch.tensor([0, 2, -100, 3, 1])
        c.add(op, function, [draw(5, 4), target], reduction=reduction)
        c.add(op, lambda x, y, w, **k: function(x, y, weight=w.detach(), **k), [draw(5, 4), target, c.uniform(4, low=0.5, high=2.0)], reduction=reduction)
        c.add(op, lambda x, y, w, **k: function(x, y, weight=w.detach(), **k), [draw(2, 3, 2), torch.tensor([[0, 1], [2, 0]]), c.uniform(3, low=0.5, high=2.0)], ignore_index=0, reduction=reduction)
    c.refuse(op, function, [draw(3, 4), c.ints(4, high=4)])
    c.refuse(op, function, [draw(2, 3, 2), c.ints(2, 3, high=3)])
    c.refuse(op, lambda x, y, w: function(x, y, weight=w), [draw(3, 4), c.ints(3, high=4), c.uniform(3)])


class_loss("cross_entropy", F.cross_entropy, lambda *shape: c.normal(*shape, scale=2.0))
class_loss("nll_loss", F.nll_loss, logp)
for reduction in REDUCTIONS:
    target = torch.tensor([0, 2, -100, 3, 1])
    weighted = lambda x, y, w, **k: F.cross_entropy(x, y, weight=w.detach(), **k)
    c.add("cross_entropy", F.cross_entropy, [c.normal(5, 4), target], label_smoothing=0.1, reduction=reduction)
    c.add("cross_entropy", weighted, [c.normal(5, 4), target, c.uniform(4, low=0.5, high=2.0)], label_smoothing=0.25, reduction=reduction)
    c.add("cross_entropy", F.cross_entropy, [c.normal(2, 3, 2), c.ints(2, 2, high=3)], label_smoothing=1.0, reduction=reduction)
    for shape in [(3, 4), (5,), (2, 3, 2)]:
        soft = torch.softmax(c.normal(*shape), 1 if len(shape) > 1 else 0).float().double()
        c.add("soft_cross_entropy", F.cross_entropy, [c.normal(*shape), soft], reduction=reduction)
    c.add("soft_cross_entropy", weighted, [c.normal(3, 4), c.uniform(3, 4, low=0.0), c.uniform(4, low=0.5, high=2.0)], label_smoothing=0.2, reduction=reduction)
c.refuse("cross_entropy", F.cross_entropy, [c.normal(3, 4), c.ints(3, high=4)], label_smoothing=1.5)
c.refuse("soft_cross_entropy", F.cross_entropy, [c.normal(3, 4), c.uniform(3, 3)])

# ---- independent probabilities
for shape in SHAPES:
    for reduction in REDUCTIONS if 0 not in shape else REDUCTIONS[1:]:
        c.add("bce_with_logits", F.binary_cross_entropy_with_logits, [c.normal(*shape, scale=3.0), c.uniform(*shape, low=0.0)], reduction=reduction)
    c.add("bce", F.binary_cross_entropy, [c.uniform(*shape, low=0.02, high=0.98), c.uniform(*shape, low=0.0)], reduction="sum")
    c.add("soft_margin_loss", floated(F.soft_margin_loss), [c.normal(*shape, scale=3.0), signs(*shape)], reduction="sum")
with_weight = lambda f: lambda x, y, w, **k: f(x, y, weight=w.detach(), **k)
with_positive = lambda x, y, w, p, **k: F.binary_cross_entropy_with_logits(x, y, weight=w.detach(), pos_weight=p.detach(), **k)
for reduction in REDUCTIONS:
    c.add("bce_with_logits", with_weight(F.binary_cross_entropy_with_logits), [c.normal(2, 3), c.uniform(2, 3, low=0.0), c.uniform(3, low=0.5, high=2.0)], reduction=reduction)
    c.add("bce_with_logits", with_positive, [c.normal(2, 3), c.uniform(2, 3, low=0.0), c.uniform(2, 1, low=0.5, high=2.0), c.uniform(3, low=0.5, high=3.0)], reduction=reduction)
    c.add("bce", with_weight(F.binary_cross_entropy), [c.uniform(2, 3, low=0.02, high=0.98), c.uniform(2, 3, low=0.0), c.uniform(3, low=0.5, high=2.0)], reduction=reduction)
    c.add("soft_margin_loss", floated(F.soft_margin_loss), [c.normal(4), signs(4)], reduction=reduction)
    c.add("multilabel_soft_margin_loss", F.multilabel_soft_margin_loss, [c.normal(3, 4), c.ints(3, 4, high=2).double()], reduction=reduction)
    c.add("multilabel_soft_margin_loss", F.multilabel_soft_margin_loss, [c.normal(4), c.ints(4, high=2).double()], reduction=reduction)
    c.add("multilabel_soft_margin_loss", with_weight(F.multilabel_soft_margin_loss), [c.normal(3, 4), c.ints(3, 4, high=2).double(), c.uniform(4, low=0.5, high=2.0)], reduction=reduction)
c.add("bce_with_logits", F.binary_cross_entropy_with_logits, [torch.tensor([-200.0, 200.0, 0.0, 100.0]), torch.tensor([0.0, 1.0, 0.5, 0.0])])
c.add("bce", F.binary_cross_entropy, [torch.tensor([0.0, 1.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.25, 1.0])], grad=False)
c.refuse("bce_with_logits", F.binary_cross_entropy_with_logits, [c.normal(2, 3), c.uniform(3)])
c.refuse("bce", F.binary_cross_entropy, [c.uniform(2, 3, low=0.1), c.uniform(3, low=0.0)])
c.refuse("multilabel_soft_margin_loss", F.multilabel_soft_margin_loss, [c.normal(3, 4), c.normal(4, 3)])

# ---- numbers
for op, keywords in dict(mse_loss=[{}], l1_loss=[{}], smooth_l1_loss=[{}, dict(beta=0.5), dict(beta=0.0)], huber_loss=[{}, dict(delta=0.5), dict(delta=2.0)]).items():
    for keyword in keywords:
        for shape, reduction in zip(SHAPES, REDUCTIONS * 2):
            c.add(op, getattr(F, op), [c.normal(*shape, scale=2.0), c.normal(*shape)], reduction=reduction, **keyword)
    for reduction in REDUCTIONS:
        x = torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])
        c.add(op, getattr(F, op), [x, torch.zeros(7)], reduction=reduction, **keywords[-1])
    c.refuse(op, getattr(F, op), [c.normal(2, 3), c.normal(2)])
c.refuse("smooth_l1_loss", F.smooth_l1_loss, [c.normal(2), c.normal(2)], beta=-1.0)
c.refuse("huber_loss", F.huber_loss, [c.normal(2), c.normal(2)], delta=0.0)
for reduction in REDUCTIONS + ("batchmean",):
    for shape in [(2, 3), (4,)]:
        p = torch.softmax(c.normal(*shape), -1).float().double()
        c.add("kl_div", F.kl_div, [logp(*shape), p], reduction=reduction)
        c.add("kl_div", F.kl_div, [logp(*shape), logp(*shape)], reduction=reduction, log_target=True)
for reduction in REDUCTIONS:
    for var, full in [((2, 3), False), ((2, 1), True), ((2,), False)]:
        c.add("gaussian_nll_loss", F.gaussian_nll_loss, [c.normal(2, 3), c.normal(2, 3), c.uniform(*var, low=0.25, high=2.0)], full=full, reduction=reduction)
    c.add("gaussian_nll_loss", F.gaussian_nll_loss, [c.normal(3), c.normal(3), torch.tensor([0.0, 0.25, 2.0])], eps=0.5, reduction=reduction)
    for log_input in (True, False):
        for full in (True, False):
            x = c.normal(5) if log_input else c.uniform(5, low=0.1, high=5.0)
            c.add("poisson_nll_loss", floated(F.poisson_nll_loss), [x, c.ints(5, low=0, high=6)], log_input=log_input, full=full, reduction=reduction)
c.refuse("gaussian_nll_loss", F.gaussian_nll_loss, [c.normal(2, 3), c.normal(2, 3), c.uniform(3, 2, low=0.5)])

c.save()
