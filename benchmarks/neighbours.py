"""What a step of each neighbouring question costs a logit, over a step of NGD: python -m benchmarks.neighbours.

Processor time of whole calls, of one engine (XLA), n=6 T=8 d=10 unless said, in turn with NGD and in the median; the
ratio is of processor time per lane, step and logit.
"""

import statistics
import time

import jax

import jaxsim
from benchmarks import throughput

LANES, STEPS, REPEATS = 2000, 1000, 5


def cases():
    """Name, problem, rule, what is trained, loss, and logits of a lane."""
    rules, data = jaxsim.rules, throughput.problem()
    ngd, plain = rules.NGD(0.1), jaxsim.train.Weights()
    tokens = jaxsim.data.next_token(jax.random.key(1), n=6, T=8, K=12, d=10)
    noisy = jaxsim.data.label_noise(jax.random.key(1))
    found = [
        ("next-token prediction", tokens, ngd, plain, "negative-log"),
        ("weight decay", data, rules.Decayed(ngd, 0.01), plain, "logistic"),
        ("two heads", data, ngd, jaxsim.train.Heads(2), "logistic"),
        ("four heads", data, ngd, jaxsim.train.Heads(4), "logistic"),
        ("sharpness-aware minimisation", data, rules.SAM(ngd, 0.1), plain, "logistic"),
        ("sign descent with momentum (Signum)", data, rules.Signum(0.1), plain, "logistic"),
        ("AdamW", data, rules.Decayed(rules.Adam(0.02), 0.01), plain, "logistic"),
        ("spectral descent with momentum (Muon)", data, rules.Muon(0.1), plain, "logistic"),
        ("hybrid norm", data, rules.Hybrid(0.1), plain, "logistic"),
        ("label noise, n=20 T=8 d=200, 400 tests", noisy, ngd, plain, "logistic"),
        ("the same without tests", jaxsim.data.label_noise(jax.random.key(1), tests=0), ngd, plain, "logistic"),
    ]
    return [(*case, case[3].lift(case[1]).visible.size) for case in found]


def seconds(problem, rule, train, loss):
    """Processor time of one call."""
    began = time.process_time()
    jaxsim.simulate(
        problem, rule, jaxsim.init.Gaussian(0.5), key=jax.random.key(0), lanes=LANES, steps=STEPS, train=train,
        loss=loss, record=throughput.records(STEPS), limits="saturated", engine="xla", stepping="every",
    )  # fmt: skip
    return time.process_time() - began


def main():
    """Print the table."""
    data = throughput.problem()
    for x64 in (False, True):
        jax.config.update("jax_enable_x64", x64)
        print(f"float{64 if x64 else 32}: processor time per lane, step and logit, NGD = 1")
        base = (data, jaxsim.rules.NGD(0.1), jaxsim.train.Weights(), "logistic")
        for name, problem, rule, train, loss, logits in cases():
            own, other = (problem, rule, train, loss), base
            _ = seconds(*own), seconds(*other)  # compilation
            ratios = [seconds(*own) / seconds(*other) * data.visible.size / logits for _ in range(REPEATS)]
            print(f"  {name:40s} {statistics.median(ratios):6.2f}", flush=True)


if __name__ == "__main__":
    main()
