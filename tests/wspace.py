"""The dynamics in many digits and in W itself, straight from the definition: the reference that shares nothing.

No reduction, no logits carried, no scales: W is a d × e array of mpmath numbers, and every step forms the logits
xᵀWz, the softmax, the margins and Σ g x zᵀ anew.
"""

import mpmath as mp
import numpy as np


def exact(values) -> np.ndarray:
    """Floats as multi-digit numbers, entry by entry."""
    array = np.asarray(values, float)
    return np.array([mp.mpf(float(v)) for v in array.ravel()], dtype=object).reshape(array.shape)


def elementwise(function, values) -> np.ndarray:
    return np.array([function(v) for v in values.ravel()], dtype=object).reshape(values.shape)


class Reference:
    """One problem; `steps` gives W after each update of a rule."""

    def __init__(self, problem, digits=60):
        mp.mp.dps = digits
        self.keys, self.z = exact(problem.keys), exact(problem.queries)
        self.visible = problem.visible
        self.scores = exact(problem.labels)[:, None] * (exact(problem.tokens) @ exact(problem.decoder))

    def logits(self, W) -> np.ndarray:
        """a_it = k_itᵀ W z_i."""
        return np.array([[key @ (W @ z) for key in keys] for keys, z in zip(self.keys, self.z, strict=True)])

    def gradient(self, W) -> tuple[np.ndarray, mp.mpf]:
        """∇L(W) for the logistic loss, and L - L*."""
        n, total, gap = len(self.z), 0 * W, mp.mpf(0)
        for i, a in enumerate(self.logits(W)):
            seen = self.visible[i]
            weight = elementwise(mp.exp, a[seen] - max(a[seen]))
            phi, s = weight / weight.sum(), self.scores[i][seen]
            m = phi @ s
            gap += mp.log1p(mp.exp(-m)) - mp.log1p(mp.exp(-max(s)))
            g = -phi * (s - m) / (1 + mp.exp(m)) / n
            total = total + np.outer(g @ self.keys[i][seen], self.z[i])
        return total, gap / n

    def norm(self, W) -> mp.mpf:
        return mp.sqrt((W * W).sum())

    def steps(self, W0, rule, count):
        """W_1, W_2, … under a rule: (name, step size, further parameters)."""
        name, eta, *rest = rule
        eta, W, memory = mp.mpf(eta), exact(W0), {}
        for k in range(count):
            gradient, gap = self.gradient(W)
            W = W - self._step(name, eta, rest, gradient, gap, memory, k + 1, W)
            yield W

    def _step(self, name, eta, rest, gradient, gap, memory, t, W):
        size = self.norm(gradient)
        if name == "gd":
            return eta * gradient
        if name == "ngd":
            return eta * gradient / size
        if name == "polyak":
            return eta * gap / size**2 * gradient
        if name == "adagrad-norm":
            memory["squares"] = memory.get("squares", mp.mpf(1)) + size**2
            return eta * gradient / mp.sqrt(memory["squares"])
        if name in ("heavy-ball", "normalised-momentum"):
            v = memory["v"] = mp.mpf(rest[0]) * memory.get("v", 0 * gradient) + gradient
            return eta * v / (self.norm(v) if name == "normalised-momentum" else 1)
        if name == "adam":
            b1, b2 = (mp.mpf(b) for b in rest)
            m = memory["m"] = b1 * memory.get("m", 0 * gradient) + (1 - b1) * gradient
            v = memory["v"] = b2 * memory.get("v", 0 * gradient) + (1 - b2) * gradient**2
            return eta * (m / (1 - b1**t)) / elementwise(mp.sqrt, v / (1 - b2**t))
        if name == "mirror":
            power = mp.mpf(rest[0]) - 1
            theta = memory.setdefault("theta", elementwise(lambda w: mp.sign(w) * abs(w) ** power, W))
            memory["theta"] = theta - eta * gradient / size
            return W - elementwise(lambda x: mp.sign(x) * abs(x) ** (1 / power), memory["theta"])
        raise ValueError(name)


def relative(found, reference) -> float:
    """The largest error, in units of the largest entry of the reference."""
    error = np.abs(np.asarray(exact(found) - reference, dtype=object)).max()
    return float(error / np.abs(reference).max())
