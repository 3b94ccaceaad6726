"""Make the deep reference cases of tests/data with mpmath: python tests/make_reference.py

The seven shallower files came with the project's design notes; two go below the smallest float64, two have weight
decay: a W that comes to the length 1/λ under NGD, and one under GD that decays from where its gradient is 10^-24; and
four take the gradient at W + ρ ∇L/‖∇L‖, or at W + ρ ∇L with a ρ that outweighs how small ∇L is.
Nothing here is shared with the simulator: plain multiple-precision arithmetic on the definition of the model.
"""

import pathlib

import mpmath as mp
import numpy as np

HERE = pathlib.Path(__file__).parent / "data"


def exact(values):
    return [mp.mpf(float(v)) for v in np.asarray(values).ravel()]


def trajectory(case, rule, eta, record, digits, rate=0.0, rho=0.0, normalise=True):
    mp.mp.dps = digits
    X, Z, y, u, W0 = (np.asarray(case[k], float) for k in ("X", "Z", "y", "u", "W0"))
    n, T, _ = X.shape
    rows = [[p * q for p in exact(X[i, t]) for q in exact(Z[i])] for i in range(n) for t in range(T)]
    gram = [[mp.fdot(p, q) for q in rows] for p in rows]
    scores = [[mp.mpf(float(y[i])) * mp.fdot(exact(X[i, t]), exact(u)) for t in range(T)] for i in range(n)]
    floor = mp.fsum(mp.log1p(mp.exp(-max(s))) for s in scores) / n
    a, c = [mp.fdot(p, exact(W0)) for p in rows], [mp.mpf(0)] * (n * T)
    left = mp.mpf(1)  # of W_0, under weight decay
    out = {k: [] for k in ("logits", "coeffs", "log10_grad_norm", "log10_gap", "norm")}

    def slope(a):
        g, total = [], mp.mpf(0)
        for i in range(n):
            weights = [mp.exp(v) for v in a[i * T : (i + 1) * T]]
            mass = mp.fsum(weights)
            margin = mp.fdot(weights, scores[i]) / mass
            total += mp.log1p(mp.exp(-margin)) / n
            g += [-w / mass * (s - margin) / (1 + mp.exp(margin)) / n for w, s in zip(weights, scores[i], strict=True)]
        Kg = [mp.fdot(row, g) for row in gram]
        return g, Kg, mp.fdot(g, Kg), total

    for k in range(record[-1] + 1):
        g, Kg, squared, total = slope(a)
        if k in record:
            out["logits"].append([float(v) for v in a])
            out["coeffs"].append([float(v) for v in c])
            out["log10_grad_norm"].append(float(mp.log10(squared) / 2))
            out["log10_gap"].append(float(mp.log10(total - floor)))
            W = [left * w + mp.fdot(c, part) for w, part in zip(exact(W0), zip(*rows, strict=True), strict=True)]
            out["norm"].append(float(mp.norm(W)))
        if rho:
            far = mp.mpf(rho) / (mp.sqrt(squared) if normalise else 1)
            g, Kg, squared, total = slope([v + far * w for v, w in zip(a, Kg, strict=True)])
        size = {"gd": mp.mpf(1), "ngd": 1 / mp.sqrt(squared), "polyak": (total - floor) / squared}[rule]
        step, kept = mp.mpf(eta) * size, 1 - mp.mpf(eta) * mp.mpf(rate)
        a = [kept * v - step * w for v, w in zip(a, Kg, strict=True)]
        c = [kept * v - step * w for v, w in zip(c, g, strict=True)]
        left *= kept
    return {k: np.array(v) for k, v in out.items()}


if __name__ == "__main__":
    for name, source, rule, eta, record, digits in [
        ("ngd_deep", "ngd_self", "ngd", 1.0, (0, 10, 100, 1000, 1500), 1600),
        ("polyak_deep", "polyak_self", "polyak", 1.0, (0, 10, 100, 400, 800), 2000),
    ]:
        with np.load(HERE / f"{source}.npz") as z:
            case = {k: z[k] for k in ("X", "Z", "y", "u", "W0")}
        result = trajectory(case, rule, eta, record, digits)
        print(name, result["log10_grad_norm"], result["log10_gap"])
        np.savez(HERE / f"{name}.npz", **case, rule=rule, eta=eta, loss="logistic", steps=np.array(record), **result)
    for name, rule, eta, rate, size, record in [
        ("ngd_decayed", "ngd", 0.5, 0.004, 1.0, (0, 10, 100, 1000, 3000)),
        ("gd_decayed", "gd", 0.5, 0.1, 300.0, (0, 10, 60, 100, 1000)),
    ]:
        with np.load(HERE / "ngd_self.npz") as z:
            case = {k: z[k] for k in ("X", "Z", "y", "u")} | {"W0": size * z["W0"]}
        result = trajectory(case, rule, eta, record, 300, rate)
        print(name, result["log10_grad_norm"], result["norm"])
        made = dict(rule=rule, eta=eta, rate=rate, loss="logistic", steps=np.array(record))
        np.savez(HERE / f"{name}.npz", **case, **made, **result)
    for name, source, rule, eta, rho, normalise, record in [
        ("ngd_sam", "ngd_self", "ngd", 0.5, 0.5, True, (0, 10, 100, 1000, 1500)),
        ("polyak_sam", "ngd_self", "polyak", 1.0, 1.0, True, (0, 10, 100, 400)),
        ("gd_sam", "ngd_sam", "gd", 1e19, 2.0, True, (0, 10, 60, 100, 1000)),
        ("gd_usam", "ngd_sam", "gd", 1e19, 1e19, False, (0, 10, 60, 100, 1000)),
    ]:
        with np.load(HERE / f"{source}.npz") as z:
            case = {k: z[k] for k in ("X", "Z", "y", "u", "W0")}
            if source == "ngd_sam":  # from where that is at its third record
                rows = np.einsum("itd,ie->itde", z["X"], z["Z"]).reshape(-1, *z["W0"].shape)
                case["W0"] = z["W0"] + np.einsum("k,kde->de", z["coeffs"][2], rows)
        result = trajectory(case, rule, eta, record, 600, rho=rho, normalise=normalise)
        print(name, result["log10_grad_norm"], result["norm"])
        made = dict(rule=rule, eta=eta, rho=rho, normalise=normalise, loss="logistic", steps=np.array(record))
        np.savez(HERE / f"{name}.npz", **case, **made, **result)
