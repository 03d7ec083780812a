"""Recurrent layers, their cells, and CTC."""

import torch
import torch.nn.functional as F
from torch import _VF

from common import Cases

c = Cases("scan")
GATES = dict(lstm=4, gru=3, rnn=1)


def run(kind, x, *rest, layers=1, bidirectional=False, batch_first=True, bias=True, init=True, nonlinearity="tanh"):
    """Operands: x, first states if `init`, then per layer and direction: weight_ih, weight_hh, biases."""
    states = (2 if kind == "lstm" else 1) if init else 0
    first, weights = rest[:states], list(rest[states:])
    hidden = weights[1].shape[1]
    if not init:
        batch = x.shape[0 if batch_first else 1]
        zero = torch.zeros(layers * (2 if bidirectional else 1), batch, hidden, dtype=x.dtype)
        first = (zero, zero) if kind == "lstm" else (zero,)
    tail = (weights, bias, layers, 0.0, False, bidirectional, batch_first)
    if kind == "lstm":
        return _VF.lstm(x, tuple(first), *tail)
    function = _VF.gru if kind == "gru" else _VF.rnn_relu if nonlinearity == "relu" else _VF.rnn_tanh
    return function(x, first[0], *tail)


def operands(kind, batch, time, features, hidden, **attrs):
    directions = 2 if attrs.get("bidirectional") else 1
    layers, gates = attrs.get("layers", 1), GATES[kind] * hidden
    shape = (batch, time, features) if attrs.get("batch_first", True) else (time, batch, features)
    inputs = [c.normal(*shape)]
    if attrs.get("init", True):
        inputs += [c.normal(layers * directions, batch, hidden) for _ in range(2 if kind == "lstm" else 1)]
    for layer in range(layers):
        for _ in range(directions):
            width = features if layer == 0 else hidden * directions
            inputs += [c.normal(gates, width, scale=0.5), c.normal(gates, hidden, scale=0.5)]
            if attrs.get("bias", True):
                inputs += [c.normal(gates), c.normal(gates)]
    return inputs


VARIANTS = [
    ((2, 5, 3, 4), dict()),
    ((3, 4, 2, 3), dict(bidirectional=True)),
    ((1, 1, 1, 1), dict()),
    ((2, 6, 3, 4), dict(layers=2)),
    ((2, 3, 2, 4), dict(layers=2, bidirectional=True, batch_first=False)),
    ((4, 3, 5, 2), dict(bias=False, init=False)),
    ((2, 7, 3, 3), dict(batch_first=False)),
    ((1, 9, 3, 3), dict(init=False, layers=3)),
]
for kind in ("lstm", "gru", "rnn"):
    for index, (sizes, attrs) in enumerate(VARIANTS):
        if kind == "rnn" and index % 2 == 1:
            attrs = dict(attrs, nonlinearity="relu")
        c.add(kind, lambda *x, kind=kind, **a: run(kind, *x, **a), operands(kind, *sizes, **attrs), **attrs)
    x, *rest = operands(kind, 2, 3, 3, 4)
    c.refuse(kind, lambda *x, kind=kind, **a: run(kind, *x, **a), [c.normal(2, 3, 5), *rest])
    h = [c.normal(1, 3, 4) for _ in range(2 if kind == "lstm" else 1)]
    c.refuse(kind, lambda *x, kind=kind, **a: getattr(torch.nn, kind.upper())(3, 4, batch_first=True)(x[0], tuple(x[1:3]) if kind == "lstm" else x[1]), [x.float(), *[state.float() for state in h], *rest[len(h):]])


def packed(kind, x, *rest):
    """Sequences of different lengths: x, lengths, first states, weights of one layer in two directions."""
    lengths, states = rest[0], 2 if kind == "lstm" else 1
    sequence = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=True)
    first = rest[1 : 1 + states]
    tail = (list(rest[1 + states :]), True, 1, 0.0, False, True)
    if kind == "lstm":
        y, *last = _VF.lstm(sequence.data, sequence.batch_sizes, tuple(first), *tail)
    else:
        y, *last = (_VF.gru if kind == "gru" else _VF.rnn_tanh)(sequence.data, sequence.batch_sizes, first[0], *tail)
    y = torch.nn.utils.rnn.PackedSequence(y, sequence.batch_sizes)
    return [torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])[0], *last]


for kind in ("lstm", "gru", "rnn"):
    for lengths in ([4, 2, 1], [4, 4, 3], [3, 3, 2]):
        x, *rest = operands(kind, 3, 4, 2, 3, bidirectional=True)
        c.add("packed", lambda *x, kind=kind: packed(kind, *x), [x, torch.tensor(lengths), *rest], call={}, kind=kind)

CELLS = dict(lstm=_VF.lstm_cell, gru=_VF.gru_cell, rnn=_VF.rnn_tanh_cell)


def cell(kind, x, *rest):
    if kind == "lstm":
        return CELLS[kind](x, (rest[0], rest[1]), *rest[2:])
    return CELLS[kind](x, *rest)


for kind in ("lstm", "gru", "rnn"):
    for batch, features, hidden in ((1, 1, 1), (2, 3, 4), (5, 2, 3)):
        states = [c.normal(batch, hidden) for _ in range(2 if kind == "lstm" else 1)]
        gates = GATES[kind] * hidden
        weights = [c.normal(gates, features), c.normal(gates, hidden), c.normal(gates), c.normal(gates)]
        c.add("cell", lambda *x, kind=kind: cell(kind, *x), [c.normal(batch, features), *states, *weights], call={}, kind=kind)
c.refuse("cell", lambda *x, kind="gru": cell(kind, *x), [c.normal(2, 3), c.normal(3, 4), c.normal(12, 3), c.normal(12, 4), c.normal(12), c.normal(12)], call={}, kind="gru")


def ctc(logits, targets, input_lengths, target_lengths, **attrs):
    """Of logits: PyTorch's gradient by log-probabilities counts on the log-softmax before it."""
    return F.ctc_loss(logits.log_softmax(-1), targets, input_lengths, target_lengths, **attrs)


def labels(count, length, classes, blank=0):
    return torch.as_tensor(c.rng.choice([k for k in range(classes) if k != blank], size=(count, length)))


FULL = lambda count, value: torch.full((count,), value)
c.add("ctc", ctc, [c.normal(6, 2, 4), labels(2, 3, 4), FULL(2, 6), FULL(2, 3)])
c.add("ctc", ctc, [c.normal(9, 3, 5), labels(3, 4, 5), torch.tensor([9, 8, 6]), torch.tensor([4, 2, 1])], reduction="none")
c.add("ctc", ctc, [c.normal(7, 2, 3), torch.tensor([[1, 1, 2], [2, 2, 2]]), FULL(2, 7), FULL(2, 3)], reduction="sum")
c.add("ctc", ctc, [c.normal(5, 2, 4), labels(2, 2, 4, 3), FULL(2, 5), FULL(2, 2)], blank=3, reduction="none")
c.add("ctc", ctc, [c.normal(5, 3, 4), labels(3, 4, 4), torch.tensor([5, 2, 3]), torch.tensor([2, 4, 3])], zero_infinity=True, reduction="none")
c.add("ctc", ctc, [c.normal(4, 2, 3), labels(2, 2, 3), FULL(2, 4), torch.tensor([0, 2])], reduction="sum")
c.add("ctc", ctc, [c.normal(1, 2, 3), labels(2, 1, 3), FULL(2, 1), FULL(2, 1)])
c.add("ctc", ctc, [c.normal(12, 1, 6, scale=3.0), labels(1, 5, 6), FULL(1, 12), FULL(1, 5)], reduction="mean")
c.add("ctc", ctc, [c.normal(8, 4, 5), labels(4, 3, 5), torch.tensor([8, 3, 2, 8]), torch.tensor([3, 3, 3, 0])], zero_infinity=True)
c.refuse("ctc", ctc, [c.normal(6, 2, 4), labels(2, 3, 4), FULL(3, 6), FULL(2, 3)])
c.refuse("ctc", ctc, [c.normal(6, 2, 4), labels(2, 3, 4), FULL(2, 6), FULL(2, 3)], blank=4)

c.save()
