"""Optimizers and schedules: 100 steps on stored gradients in float64, and learning rates step by step -> optimizers.json.

    python optimizers.py
"""

import json
import math
import os

import numpy as np
import torch

STEPS, SIZE, SEED = 100, 6, 0
KEPT = [1, 2, 10, 50, 100]
rng = np.random.default_rng(SEED)
start = rng.standard_normal(SIZE).astype(np.float32)
# Means and scales that differ by element, so that moments differ.
gradients = (rng.standard_normal((STEPS, SIZE)) * [0.01, 0.1, 1, 1, 10, 1e-4] + [0.02, 0, 1, -0.1, 3, 0]).astype(np.float32)
ROWS, COLUMNS = 5, 8
# The same for a matrix, in few digits.
matrix_start = np.round(rng.standard_normal((ROWS, COLUMNS)), 3).astype(np.float32)
scales = np.array([0.01, 0.1, 1, 1, 3, 1e-2, 0.5, 2.0])
matrix_gradients = np.round(rng.standard_normal((STEPS, ROWS, COLUMNS)) * scales + 0.1, 3).astype(np.float32)


class Lion(torch.optim.Optimizer):
    """Algorithm 2 of Chen et al. 2023, which PyTorch does not have."""

    def __init__(self, params, lr, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            (b1, b2), lr = group["betas"], group["lr"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.mul_(1 - lr * group["weight_decay"])
                p.sub_(lr * torch.sign(b1 * m + (1 - b1) * p.grad))
                m.mul_(b2).add_((1 - b2) * p.grad)


class AdamW8bit(torch.optim.Optimizer):
    """AdamW whose moments are rounded to bitsandbytes' dynamic maps in blocks of 256 after each step (Dettmers et al. 2022)."""

    def __init__(self, params, lr, betas=(0.9, 0.999), weight_decay=0.01):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))
        self.maps = [self.dynamic_map(True), self.dynamic_map(False)]

    @staticmethod
    def dynamic_map(signed):
        values = [0.0, 1.0]
        for decade in range(7):
            bounds = np.linspace(0.1, 1, 2 ** (decade + (0 if signed else 1)) + 1)
            means = 10.0 ** (decade - 6) * (bounds[:-1] + bounds[1:]) / 2
            values += [*means, *(-means if signed else [])]
        return np.sort(np.array(values))

    def rounded(self, which, x):
        out = np.zeros_like(x)
        for block in range(0, len(x), 256):
            part = x[block : block + 256]
            most = np.abs(part).max()
            if most > 0:
                nearest = np.abs(part[:, None] / most - self.maps[which][None, :]).argmin(1)
                out[block : block + 256] = self.maps[which][nearest] * most
        return out

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            (b1, b2), lr = group["betas"], group["lr"]
            for p in group["params"]:
                state = self.state[p]
                g = p.grad.numpy().ravel()
                state["step"] = t = state.get("step", 0) + 1
                m, v = (state.get(name, np.zeros_like(g)) for name in "mv")
                m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
                update = lr / (1 - b1**t) * m / (np.sqrt(v / (1 - b2**t)) + 1e-8)
                p.mul_(1 - lr * group["weight_decay"]).sub_(torch.tensor(update).reshape(p.shape))
                state["m"], state["v"] = self.rounded(0, m), self.rounded(1, v)


def newton_schulz(gradient, coefficients, steps, eps):
    """torch.optim.Muon's iterations without its rounding to bfloat16."""
    a, b, c = coefficients
    x = gradient.T if gradient.size(0) > gradient.size(1) else gradient
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if gradient.size(0) > gradient.size(1) else x


torch.optim._muon._zeropower_via_newtonschulz = newton_schulz


def many(step, size=600):
    """Gradients for many elements, too many to be stored: by integers, the same in every language."""
    i = np.arange(size)
    return ((i * 7919 + step * 104729 + i * step * 31) % 2003 / 1001.0 - 1.0) * np.array([1.0, 0.03, 0.001])[i % 3]


def path(optimizer, lr, shape=None, **options):
    if shape is None:
        first, gradient = start, lambda step: gradients[step].astype(np.float64)
    elif shape == [600]:
        first, gradient = many(STEPS), many
    else:
        first, gradient = matrix_start.reshape(shape), lambda step: matrix_gradients[step].astype(np.float64).reshape(shape)
    w = torch.tensor(first.astype(np.float64), requires_grad=True)
    rule = (getattr(torch.optim, optimizer, None) or globals()[optimizer])([w], lr=lr, **options)
    kept = []
    for step in range(STEPS):
        w.grad = torch.tensor(gradient(step))
        rule.step()
        if step + 1 in KEPT:
            # Of many, some.
            kept.append(w.detach().flatten()[:: max(1, w.numel() // 60)].tolist())
    return dict(optimizer=optimizer, lr=lr, shape=shape, options=options, parameters=kept)


# f32's, in whatever precision the parameters are.
EPS = (2.0**-23, 1e-3)
paths = [
    path("SGD", 0.01), path("SGD", 0.01, momentum=0.9), path("SGD", 0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
    path("Adam", 1e-2), path("Adam", 1e-2, weight_decay=0.1), path("Adam", 1e-2, amsgrad=True, betas=(0.8, 0.9)),
    path("AdamW", 1e-2), path("AdamW", 1e-2, weight_decay=0.3, betas=(0.9, 0.95)),
    path("RMSprop", 1e-2), path("RMSprop", 1e-2, momentum=0.9, weight_decay=0.1), path("RMSprop", 1e-2, centered=True),
    path("RMSprop", 1e-2, centered=True, momentum=0.5),
    path("Adagrad", 1e-1), path("Adagrad", 1e-1, lr_decay=0.05, weight_decay=0.1, initial_accumulator_value=0.5),
    path("Adadelta", 1.0), path("Adadelta", 0.5, rho=0.8, weight_decay=0.1),
    path("SGD", 0.01, momentum=0.9, dampening=0.4, weight_decay=0.1), path("Adam", 1e-2, maximize=True), path("SGD", 0.01, maximize=True),
    path("AdamW", 1e-2, amsgrad=True),
    path("Adafactor", 1e-2, eps=EPS), path("Adafactor", 0.5, [5, 8], eps=EPS), path("Adafactor", 0.05, [2, 5, 4], eps=(1e-6, 0.1), d=1.5, weight_decay=0.1, beta2_decay=-0.6),
    path("Muon", 0.02, [5, 8]), path("Muon", 0.02, [8, 5], nesterov=False, momentum=0.9, weight_decay=0.0),
    path("Muon", 0.02, [8, 5], adjust_lr_fn="match_rms_adamw"), path("Muon", 0.02, [5, 8], adjust_lr_fn="spectral_unclamped", ns_steps=3),
    path("AdamW8bit", 1e-2, [600]),
    path("Lion", 1e-3), path("Lion", 1e-3, weight_decay=0.5, betas=(0.95, 0.98)),
]


def rates(name, make, count=40, lr=0.3):
    rule = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    schedule = make(rule)
    found = []
    for _ in range(count):
        found.append(rule.param_groups[0]["lr"])
        rule.step()
        schedule.step()
    return dict(schedule=name, rates=found)


S = torch.optim.lr_scheduler
schedules = [
    rates("one_cycle", lambda o: S.OneCycleLR(o, 0.3, total_steps=40)),
    # wgrad's last update has the lowest rate: 39 changes in 40 updates.
    rates("cosine", lambda o: S.CosineAnnealingLR(o, T_max=39, eta_min=0.03)),
    rates("linear", lambda o: S.LinearLR(o, 1.0, 0.1, total_iters=39)),
    rates("polynomial", lambda o: S.PolynomialLR(o, total_iters=30, power=1.5)),
    rates("restarts", lambda o: S.CosineAnnealingWarmRestarts(o, T_0=5, T_mult=2, eta_min=0.01)),
    rates("equal_restarts", lambda o: S.CosineAnnealingWarmRestarts(o, T_0=7)),
    rates("step", lambda o: S.StepLR(o, 6, 0.5)),
    rates("exponential", lambda o: S.ExponentialLR(o, 0.9)),
    # Five updates of warm-up from a fifth, then constant, then nine changes to a tenth.
    rates("stable", lambda o: S.SequentialLR(o, [S.LinearLR(o, 0.2, 1.0, total_iters=4), S.ConstantLR(o, 1.0, 0), S.LinearLR(o, 1.0, 0.1, total_iters=9)], [5, 30])),
]


def warmed(name, make):
    """Five updates of warm-up from a fifth, then another schedule from its beginning."""
    return rates(name, lambda o: S.SequentialLR(o, [S.LinearLR(o, 0.2, 1.0, total_iters=4), make(o)], [5]))


schedules += [
    warmed("warm_constant", lambda o: S.ConstantLR(o, 1.0, 0)),
    warmed("warm_cosine", lambda o: S.CosineAnnealingLR(o, T_max=34, eta_min=0.03)),
    warmed("warm_linear", lambda o: S.LinearLR(o, 1.0, 0.1, total_iters=34)),
    warmed("warm_polynomial", lambda o: S.PolynomialLR(o, total_iters=25, power=1.5)),
    warmed("warm_restarts", lambda o: S.CosineAnnealingWarmRestarts(o, T_0=5, T_mult=2, eta_min=0.01)),
]

# Down and up again, with some noise.
metrics = [round(2 - math.sin(step / 9) + step * 7919 % 13 / 20, 6) for step in range(60)]


def plateau(**options):
    rule = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    schedule = S.ReduceLROnPlateau(rule, **options)
    found = []
    for metric in metrics:
        rule.step()
        schedule.step(metric)
        found.append(rule.param_groups[0]["lr"])
    return dict(options=options, rates=found)


plateaus = [
    plateau(patience=2),
    plateau(patience=3, cooldown=4, factor=0.7, threshold=0.05, min_lr=0.01),
    plateau(mode="max", patience=1, factor=0.5, threshold=0.1, eps=1e-3),
    plateau(threshold_mode="abs", threshold=0.2, patience=0, cooldown=1, factor=0.9),
]

def short(array):
    return np.round(array.reshape(-1 if array.ndim == 2 else (STEPS, -1)).astype(np.float64), 3).tolist()


out = dict(torch=torch.__version__, seed=SEED, kept=KEPT, start=start.tolist(), gradients=gradients.tolist(), matrix_start=short(matrix_start), matrix_gradients=short(matrix_gradients), paths=paths, schedules=schedules, metrics=metrics, plateaus=plateaus)
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "optimizers.json"), "w") as file:
    json.dump(out, file, separators=(",", ":"))
