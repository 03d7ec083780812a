"""The sequence of torch.amp.GradScaler where products read f16 operands, and overflow of f16 leaves steps out.

Two layers whose activations and gradients are rounded to f16 where a product reads them, as wgrad's precision "f16" does;
weights are not. What is not rounded is computed in f64, so that both sides round the same numbers. Writes
tests/golden/precision.json, which tests/all/precision.rs compares with: python tests/oracle/precision.py
"""

import json
import pathlib

import torch

STEPS = 40
# Factors of the loss that make the scaled gradients overflow: f16 ends at 65504.
OVERFLOW = {3: 6e4, 4: 6e4, 11: 9e5, 12: 9e5, 13: 9e5, 24: 3e4, 25: 3e4, 36: 4e6}


def half(x):
    return x.to(torch.float32).to(torch.float16).to(torch.float64)


class Product(torch.autograd.Function):
    """`x @ w` of which x and the gradient are read in f16. `leaf`: x is an input, which is not rounded."""

    @staticmethod
    def forward(ctx, x, w, leaf):
        x = x if leaf else half(x)
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        g = half(g)
        return g @ w.T, x.T @ g, None


class Bias(torch.autograd.Function):
    """`x + b`; the gradient of b sums what the product's gradient reads."""

    @staticmethod
    def forward(ctx, x, b):
        return x + b

    @staticmethod
    def backward(ctx, g):
        return g, half(g).sum(0)


def numbers(rows, columns, factor, shift):
    """Multiples of 1/64 that f32 holds exactly."""
    values = [[((i * 37 + j * 11 + shift * 7) % 47 - 23) * factor / 64.0 for j in range(columns)] for i in range(rows)]
    return torch.tensor(values, dtype=torch.float64)


def run(clip, adam):
    w1, b1 = numbers(5, 8, 1.0, 3).requires_grad_(), torch.zeros(8, dtype=torch.float64, requires_grad=True)
    w2, b2 = numbers(8, 4, 1.0, 5).requires_grad_(), torch.zeros(4, dtype=torch.float64, requires_grad=True)
    weights = [w1, b1, w2, b2]
    if adam:
        optimizer = torch.optim.AdamW(weights, lr=0.01, weight_decay=0.01)
    else:
        optimizer = torch.optim.SGD(weights, lr=0.01, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=4)
    made, rows = 0, []
    for step in range(STEPS):
        x, y = numbers(6, 5, 2.0, step), numbers(6, 4, 4.0, step + 1)
        h = torch.relu(Bias.apply(Product.apply(x, w1, True), b1))
        found = Bias.apply(Product.apply(h, w2, False), b2)
        loss = ((found - y) ** 2).mean() * OVERFLOW.get(step, 1.0)
        optimizer.zero_grad()
        used = scaler.get_scale()
        scaler.scale(loss).backward()
        if clip:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(weights, clip)
        scaler.step(optimizer)
        scaler.update()
        overflowed = scaler.get_scale() < used
        made += not overflowed
        if adam and made:
            assert int(optimizer.state[w1]["step"]) == made
        rows.append({"scale": used, "skipped": overflowed, "made": made})
        if step % 5 == 4:
            values = [value for weight in weights for value in weight.flatten().tolist()]
            rows[-1]["weights"] = [float(f"{value:.8g}") for value in values]
    return rows


if __name__ == "__main__":
    runs = {"adamw": run(None, True), "adamw_clipped": run(0.7, True), "sgd": run(None, False)}
    for name, rows in runs.items():
        print(name, [step for step, row in enumerate(rows) if row["skipped"]], sorted({row["scale"] for row in rows}))
    path = pathlib.Path(__file__).parent.parent / "golden" / "precision.json"
    path.write_text(json.dumps(runs) + "\n")
