"""What training heads on data sets came to: accuracy and curves by set, rule and lane."""

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from jaxsim._check import one_of, open_share
from jaxsim.results.saved import Saved

if TYPE_CHECKING:
    import pandas

FEWEST = 20  # pairs of which means are shown with intervals
ACCURACIES = ("train_accuracy", "test_accuracy")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Heads(Saved):
    """What `heads` returns: P pairs (data sets), K rules, R recorded steps.

    Attributes:
        pairs: names of the data sets, P of them.
        rules: the rules, as text, K of them.
        labels: short names of the rules.
        steps: recorded steps, (R,).
        curves: name to numbers (P, K, lanes, R): `train_accuracy` and `test_accuracy` (where there is a test set), the
            share of sequences with y f(x) > 0, so that ties count as wrong; `log10_loss` of the training set; `norm`
            ‖W‖ and `decoder_norm` ‖u‖; `direction_error` of W to the att-SVM of the lane's final selection, and
            `decoder_direction_error` of u to the hard-margin classifier of the tokens it selects, NaN where there is
            none; `attention`, the mean over training sequences of the largest attention weight.
        saturated: whether a lane's attention has saturated at the end, (P, K, lanes).
        settings: how the lanes were made.
        seconds: time of each pair and rule, (P, K).
    """

    kind: ClassVar[str] = "heads"

    pairs: list[str]
    rules: list[str]
    labels: list[str]
    steps: Int[np.ndarray, " R"]
    curves: dict[str, Float[np.ndarray, "P K lanes R"]]
    saturated: np.ndarray
    settings: dict[str, Any]
    seconds: Float[np.ndarray, "P K"]

    def _said(self):
        P, K, lanes = self.saturated.shape
        made = f"{lanes} lanes of each, {self.steps[-1]:,} steps, scale {self.settings['scale']:g}"
        return f"Heads of {P} data sets and {K} rules", made, ", ".join(f"{a}: {b}" for a, b in self._rows())

    def _rows(self):
        """The mean accuracy of each rule at the end."""
        name = ACCURACIES[ACCURACIES[1] in self.curves]
        final = _mean(self.curves[name][..., -1].swapaxes(0, 1).reshape(len(self.rules), -1), 1)
        return [
            (label, f"{name.replace('_', ' ')} {100 * value:.1f}%")
            for label, value in zip(self.labels, final, strict=True)
        ]

    def interval(self, curve: str, level: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean and t interval of a curve, (K, R) each: over pairs of means over lanes; of one pair, over lanes.

        Values that are not finite are left out. Pairs that share a class are not independent, which the interval
        does not know (convention of this project). The bounds are NaN where there is one value only.

        What the level 0.95 covers, measured by drawing from the 45 pairs of digits: 94 to 96% over 45 pairs, under
        Polyak's heavy tails 92%; 88% at worst over 20. Over starts of one pair it holds for values that are spread
        smoothly, at any number of starts, but an accuracy that is 1 in nearly all starts and Polyak's loss are missed
        up to four times in five. So figures and tables show intervals only where `has_interval` says so.

        Raises:
            ValueError: for an unknown curve, or a level outside 0 to 1.
        """
        import scipy.special  # slow to import

        values, level = self.curves[one_of("curve", curve, list(self.curves))], open_share("level", level)
        units = _mean(values, 2) if len(self.pairs) > 1 else np.moveaxis(values[0], 1, 0)
        mean = _mean(units, 0)
        if len(units) < 2:
            return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
        finite = np.isfinite(units)
        count = finite.sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = np.where(finite, (units - mean) ** 2, 0.0).sum(0) / (count - 1)
            half = scipy.special.stdtrit(count - 1, 0.5 + level / 2) * np.sqrt(variance / count)
        return mean, mean - half, mean + half

    @property
    def has_interval(self) -> bool:
        """Whether means are over pairs, 20 at least, over which `interval` was measured to cover."""
        return len(self.pairs) >= FEWEST

    def to_pandas(self) -> "pandas.DataFrame":
        """One row per pair, rule and lane, with the last recorded values."""
        import pandas as pd

        P, K, lanes = self.saturated.shape
        pair, rule, lane = (index.ravel() for index in np.indices((P, K, lanes)))
        columns = {"pair": np.array(self.pairs)[pair], "rule": np.array(self.rules)[rule], "lane": lane}
        final = {name: values[..., -1].ravel() for name, values in self.curves.items()}
        return pd.DataFrame(columns | final | {"saturated": self.saturated.ravel()})

    def curves_table(self) -> "pandas.DataFrame":
        """One row per pair, rule, recorded step and curve: mean, least and largest over the lanes that are finite."""
        import pandas as pd

        shape = (len(self.pairs), len(self.rules), len(self.steps))
        pair, rule, step = (index.ravel() for index in np.indices(shape))
        rows = []
        for name, values in self.curves.items():
            sound = np.isfinite(values)
            low, high = (pick(np.where(sound, values, np.nan), axis=2) for pick in (np.fmin.reduce, np.fmax.reduce))
            rows.append(
                pd.DataFrame(
                    {
                        "pair": np.array(self.pairs)[pair],
                        "rule": np.array(self.rules)[rule],
                        "step": self.steps[step],
                        "quantity": name,
                        "mean": _mean(values, 2).ravel(),
                        "low": low.ravel(),
                        "high": high.ravel(),
                    }
                )
            )
        return pd.concat(rows, ignore_index=True)


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean over an axis of what is finite; NaN where nothing is."""
    sound = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(sound, values, 0.0).sum(axis) / sound.sum(axis)
