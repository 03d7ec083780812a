"""Optimizers and schedules: 100 steps on stored gradients in float64, and learning rates step by step -> optimizers.json.

    python optimizers.py
"""

import json
import os

import numpy as np
import torch

STEPS, SIZE, SEED = 100, 6, 0
KEPT = [1, 2, 10, 50, 100]
rng = np.random.default_rng(SEED)
start = rng.standard_normal(SIZE).astype(np.float32)
# Means and scales that differ by element, so that moments differ.
gradients = (rng.standard_normal((STEPS, SIZE)) * [0.01, 0.1, 1, 1, 10, 1e-4] + [0.02, 0, 1, -0.1, 3, 0]).astype(np.float32)


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


def path(optimizer, lr, **options):
    w = torch.tensor(start.astype(np.float64), requires_grad=True)
    rule = (getattr(torch.optim, optimizer, None) or globals()[optimizer])([w], lr=lr, **options)
    kept = []
    for step in range(STEPS):
        w.grad = torch.tensor(gradients[step].astype(np.float64))
        rule.step()
        if step + 1 in KEPT:
            kept.append(w.detach().tolist())
    return dict(optimizer=optimizer, lr=lr, options=options, parameters=kept)


paths = [
    path("SGD", 0.01), path("SGD", 0.01, momentum=0.9), path("SGD", 0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
    path("Adam", 1e-2), path("Adam", 1e-2, weight_decay=0.1), path("Adam", 1e-2, amsgrad=True, betas=(0.8, 0.9)),
    path("AdamW", 1e-2), path("AdamW", 1e-2, weight_decay=0.3, betas=(0.9, 0.95)),
    path("RMSprop", 1e-2), path("RMSprop", 1e-2, momentum=0.9, weight_decay=0.1), path("RMSprop", 1e-2, centered=True),
    path("RMSprop", 1e-2, centered=True, momentum=0.5),
    path("Adagrad", 1e-1), path("Adagrad", 1e-1, lr_decay=0.05, weight_decay=0.1, initial_accumulator_value=0.5),
    path("Adadelta", 1.0), path("Adadelta", 0.5, rho=0.8, weight_decay=0.1),
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

out = dict(torch=torch.__version__, seed=SEED, kept=KEPT, start=start.tolist(), gradients=gradients.tolist(), paths=paths, schedules=schedules)
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "optimizers.json"), "w") as file:
    json.dump(out, file, separators=(",", ":"))
