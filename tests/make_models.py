# ruff: noqa: B023  (the step functions are used within the turn of the loop that makes them)
"""Make tests/data/models with mpmath: momentum, joint and key-query training, several heads, deep into saturation.

    python tests/make_models.py [NAME ...]

Parameter space, plain multiple-precision arithmetic on the definition of the model, nothing shared with the simulator.
"""

import pathlib
import sys

import mpmath as mp
import numpy as np

HERE = pathlib.Path(__file__).parent / "data" / "models"


def matrix(values):
    return mp.matrix(np.asarray(values, float).tolist())


def inner(A, B):
    return mp.fsum(A[i, j] * B[i, j] for i in range(A.rows) for j in range(A.cols))


def entries(f, *matrices):
    A = matrices[0].copy()
    for i in range(A.rows):
        for j in range(A.cols):
            A[i, j] = f(*(M[i, j] for M in matrices))
    return A


def polar(G):
    U, _, V = mp.svd_r(G)
    return U * V


class Head:
    """Loss and gradients of one head in the blocks that are trained: W; W and u; or K and Q."""

    def __init__(self, X, Z, y, train):
        self.X, self.Z, self.train = (
            [[matrix(x[:, None]) for x in seq] for seq in X],
            [matrix(z[:, None]) for z in Z],
            train,
        )
        self.y = [mp.mpf(int(v)) for v in y]

    def forward(self, blocks, u, batch=None):
        """Over the sequences of a batch; the logits are those of all."""
        W = blocks[0] * blocks[1].T if self.train == "KQ" else blocks[0]
        u = blocks[1] if self.train == "Wu" else u
        n = len(self.y) if batch is None else int(sum(batch))
        dW, du, loss, logits = W * 0, u * 0, mp.mpf(0), []
        for i, (x, z, y) in enumerate(zip(self.X, self.Z, self.y, strict=True)):
            image = W * z
            a = [(t.T * image)[0] for t in x]
            logits += a
            if batch is not None and not batch[i]:
                continue
            top = max(a)
            e = [mp.exp(v - top) for v in a]
            mass = mp.fsum(e)
            phi = [v / mass for v in e]
            s = [y * (t.T * u)[0] for t in x]
            m = mp.fdot(phi, s)
            loss += mp.log1p(mp.exp(-m)) / n
            slope = -1 / (1 + mp.exp(m)) / n
            for p, st, t in zip(phi, s, x, strict=True):
                dW += (slope * p * (st - m)) * (t * z.T)
                du += (slope * y * p) * t
        gradients = {
            "W": [dW],
            "Wu": [dW, du],
            "KQ": [dW * blocks[1], dW.T * blocks[0]] if self.train == "KQ" else None,
        }
        return loss, gradients[self.train], logits


class Heads:
    """Several heads with decoders u_h, added up; the one block is [W_1; …; W_H], the loss is that less its infimum."""

    train = "W"

    def __init__(self, X, Z, y, decoders):
        self.X = [[matrix(x[:, None]) for x in seq] for seq in X]
        self.Z, self.u = [matrix(z[:, None]) for z in Z], [matrix(u[:, None]) for u in decoders]
        self.y = [mp.mpf(int(v)) for v in y]

    def forward(self, blocks, u, batch=None):
        """L - L*, its gradient, and the logits of head 1, then those of head 2, …"""
        n, d = len(self.y), self.u[0].rows
        W = [blocks[0][h * d : (h + 1) * d, :] for h in range(len(self.u))]
        loss, dW, logits = mp.mpf(0), [w * 0 for w in W], [[] for _ in W]
        for x, z, y in zip(self.X, self.Z, self.y, strict=True):
            phi, s = [], []
            for h, w in enumerate(W):
                a = [(t.T * (w * z))[0] for t in x]
                logits[h] += a
                e = [mp.exp(v - max(a)) for v in a]
                phi.append([v / mp.fsum(e) for v in e])
                s.append([y * (t.T * self.u[h])[0] for t in x])
            m = [mp.fdot(p, q) for p, q in zip(phi, s, strict=True)]
            loss += (mp.log1p(mp.exp(-mp.fsum(m))) - mp.log1p(mp.exp(-mp.fsum(map(max, s))))) / n
            slope = -1 / (1 + mp.exp(mp.fsum(m))) / n
            for h in range(len(W)):
                for p, st, t in zip(phi[h], s[h], x, strict=True):
                    dW[h] += (slope * p * (st - m[h])) * (t * z.T)
        whole = blocks[0] * 0
        for h, part in enumerate(dW):
            whole[h * d : (h + 1) * d, :] = part
        return loss, [whole], [v for part in logits for v in part]


def train(head, blocks, u, rule, eta, record, digits, batches=None, beta=0.9):
    mp.mp.dps = digits
    blocks, u, eta, beta = [matrix(b) for b in blocks], matrix(u), [mp.mpf(e) for e in eta], mp.mpf(beta)
    memory = [b * 0 for b in blocks]
    first, second = [b * 0 for b in blocks], [b * 0 for b in blocks]
    theta = entries(lambda w: mp.sign(w) * abs(w) ** 2, blocks[0])
    sum_of_squares = mp.mpf(1)
    out = {k: [] for k in ("logits", "log10_loss", "log10_norms", "decoder")}
    for k in range(record[-1] + 1):
        loss, grads, logits = head.forward(blocks, u)
        norms = [mp.sqrt(inner(g, g)) for g in grads]
        if k in record:
            out["logits"].append([float(v) for v in logits])
            out["log10_loss"].append(float(mp.log10(loss)))
            out["log10_norms"].append([float(mp.log10(v)) for v in norms])
            out["decoder"].append([float(v) for v in (blocks[1] if head.train == "Wu" else u)])
        if batches is not None and k < record[-1]:
            loss, grads, _ = head.forward(blocks, u, batches[k])
            norms = [mp.sqrt(inner(g, g)) for g in grads]
        squared = mp.fsum(v * v for v in norms)
        sum_of_squares += squared
        first = [beta * m + (1 - beta) * g for m, g in zip(first, grads, strict=True)]
        second = [entries(lambda a, g: (999 * a + g * g) / 1000, v, g) for v, g in zip(second, grads, strict=True)]
        unbias = 1 - beta ** (k + 1), 1 - mp.mpf("0.999") ** (k + 1)
        theta = theta - eta[0] * grads[0] / norms[0]
        memory = [beta * v + g for v, g in zip(memory, grads, strict=True)]
        step = {
            "gd": lambda i: grads[i],
            "ngd": lambda i: grads[i] / norms[i],
            "polyak": lambda i: grads[i] * (loss / squared),
            "heavy-ball": lambda i: memory[i],
            "nesterov": lambda i: grads[i] + beta * memory[i],
            "normalised-momentum": lambda i: memory[i] / mp.sqrt(inner(memory[i], memory[i])),
            "adagrad-norm": lambda i: grads[i] / mp.sqrt(sum_of_squares),
            "sign": lambda i: entries(mp.sign, grads[i]),
            "adam": lambda i: entries(lambda a, b: (a / unbias[0]) / mp.sqrt(b / unbias[1]), first[i], second[i]),
            "mirror": lambda i: (blocks[i] - entries(lambda v: mp.sign(v) * mp.sqrt(abs(v)), theta)) / eta[i],
            "spectral": lambda i: polar(grads[i]),
        }[rule]
        blocks = [b - eta[i] * step(i) for i, b in enumerate(blocks)]
    return {k: np.array(v) for k, v in out.items()}


# name, seed, train, rule, eta per block, recorded steps, digits
CASES = [
    ("heavy_ball", 1, "W", "heavy-ball", (5.0,), (0, 10, 100, 1000), 60),
    ("nesterov", 1, "W", "nesterov", (5.0,), (0, 10, 100, 1000), 60),
    ("normalised_momentum", 1, "W", "normalised-momentum", (0.5,), (0, 10, 100, 1000), 500),
    ("adagrad_norm", 1, "W", "adagrad-norm", (5.0,), (0, 10, 100, 1000), 60),
    ("sign", 1, "W", "sign", (0.5,), (0, 10, 100, 400), 300),
    ("adam", 1, "W", "adam", (0.5,), (0, 10, 100, 400), 300),
    ("mirror", 1, "W", "mirror", (1.0,), (0, 10, 100, 1000), 300),
    ("spectral", 1, "W", "spectral", (0.05,), (0, 10, 100, 400), 300),
    ("joint_gd", 2, "Wu", "gd", (1.0, 0.5), (0, 10, 100, 1000), 60),
    ("joint_ngd", 2, "Wu", "ngd", (0.5, 0.5), (0, 10, 100, 1000), 900),
    ("joint_polyak", 2, "Wu", "polyak", (0.5, 0.5), (0, 10, 100, 300), 400),
    ("joint_adam", 2, "Wu", "adam", (0.5, 0.5), (0, 10, 100, 400), 300),
    ("joint_batch", 4, "Wu", "ngd", (0.5, 0.5), (0, 10, 100, 600), 900),  # batches of two of three sequences
    ("heads_gd", 5, "heads", "gd", (1.0,), (0, 10, 100, 1000), 60),
    ("heads_ngd", 6, "heads", "ngd", (2.0,), (0, 10, 100, 600), 900),
    ("heads_polyak", 7, "heads", "polyak", (0.5,), (0, 10, 100, 300), 700),
    ("kq_gd", 3, "KQ", "gd", (1.0, 1.0), (0, 10, 100, 1000), 60),
    ("kq_ngd", 3, "KQ", "ngd", (0.05, 0.05), (0, 5, 20, 60), 1200),  # from K_0 and Q_0 times 150: see below
]


def problem(seed, n=2, T=3, d=2, width=2):
    rng = np.random.default_rng(seed)
    X, Z, u = rng.standard_normal((n, T, d)), rng.standard_normal((n, d)), rng.standard_normal(d)
    starts = {"W0": rng.standard_normal((d, d)) / 2, "K0": rng.standard_normal((d, width)) / 2}
    return dict(X=X, Z=Z, y=np.array([1.0, -1.0]), u=u, Q0=rng.standard_normal((d, width)) / 2, **starts)


def order(steps, n=3, size=2, seed=9):
    """Which sequences each step sees: epoch e is permutation(fold_in(key, e)) in pieces of `size`."""
    import jax

    shown = np.zeros((steps, n), bool)
    for k in range(steps):
        epoch, part = divmod(k, -(-n // size))
        place = np.asarray(jax.random.permutation(jax.random.fold_in(jax.random.key(seed), epoch), n))
        shown[k] = place // size == part
    return shown


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    for name, seed, which, rule, eta, record, digits in CASES:
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        mp.mp.dps = digits
        case, extra = problem(seed), {}
        if name == "joint_batch":
            # In two dimensions the gradients of two sequences nearly cancel at some steps, and dividing by their norm
            # amplifies rounding a thousandfold; five dimensions keep them apart.
            case = problem(seed, n=3, d=5) | {"y": np.array([1.0, -1.0, 1.0])}
            extra = {"batches": order(record[-1])}
        if name == "kq_ngd":
            # From small starts and at steps of 0.1 the exact dynamics amplify a change of 1e-15 at step 30 to 1e-4 at
            # step 100, so no fixed precision can follow; a start deep in saturation tests the gradient all the same.
            case |= {"K0": 150 * case["K0"], "Q0": 150 * case["Q0"]}
        head = Head(case["X"], case["Z"], case["y"], which)
        if which == "heads":  # three of them; two under gradient descent
            rng, count = np.random.default_rng(seed), 2 if rule == "gd" else 3
            case |= {"W0": rng.standard_normal((2 * count, 2)) / 2}
            extra = {"decoders": rng.standard_normal((count, 2))}
            head, which = Heads(case["X"], case["Z"], case["y"], extra["decoders"]), "W"
        blocks = {"W": [case["W0"]], "Wu": [case["W0"], case["u"][:, None]], "KQ": [case["K0"], case["Q0"]]}[which]
        batches = extra.get("batches")
        result = train(head, blocks, case["u"][:, None], rule, eta, record, digits, batches)
        print(name, result["log10_loss"].round(2), result["log10_norms"][-1].round(1), flush=True)
        np.savez(
            HERE / f"{name}.npz",
            **case,
            train=which,
            rule=rule,
            eta=np.array(eta),
            steps=np.array(record),
            **extra,
            **result,
        )
