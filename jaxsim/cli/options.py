"""What options of several commands mean: their help, and the problem, rules, law and training that their texts name."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any

from jaxsim._check import whole_number, written_steps
from jaxsim._text import counted, printable
from jaxsim.cli._usage import filled

DATA = (
    "digits, signal-noise, unit-sphere, orthonormal, next-token, label-noise{more_data}, or a FILE.npz with tokens, "
    "queries, labels and decoder"
)
FAMILY = "(default: the family's)"
SIZES = (
    "(n, T, d): digits 20, 4, 16; signal-noise 10, 5, 64; unit-sphere 6, 8, 10; orthonormal 4, 4, 16; "
    "next-token 6, 4, 8; label-noise 20, 8, 200"
)
DATA_HELP = f"Problem: {DATA}. Default sizes {SIZES}."
PARAMETERS = (
    "gd, ngd, polyak (optimal_loss, max_step=1000), heavy-ball, nesterov and normalised-momentum (beta=0.9), "
    "adagrad-norm (b0=1), sign, signum (beta=0.9), adam (beta1=0.9, beta2=0.999, eps=0), mirror (p=1.5), "
    "spectral (method=svd), muon (beta=0.95, method=svd), hybrid (norms=spectral/linf, beta=0)"
)
WRAPPED = (
    "; after any of them rho=0.1 for its gradient at W + ρ ∇L/‖∇L‖ (sharpness-aware minimisation), and after those "
    "with a step η rate=0.01 for weight decay"
)
RULES_HELP = (
    "NAME=STEP or NAME=STEP@STEPS, repeatable: polyak takes a factor, the others η; @1e12 is a horizon of its own "
    "(default: gd=1, ngd=0.5, polyak=1; for digits gd=1000, once more to 1e12 steps). Names, with what may follow a "
    f"comma, as in mirror=0.1,p=1.2: {PARAMETERS}"
    f"{{also_rule}}{WRAPPED}."
)
POSITIONS_HELP = "digits: one-hot positions appended to tokens: none, one-hot or both (default: both)."
SIGNAL_HELP = "Norm of the signal (default: signal-noise 2, label-noise 10)."
NOISE_HELP = "Standard deviation of an entry of the noise (default: signal-noise 0.3, label-noise 1)."
INIT_HELP = "Law of W_0: gaussian, sphere, zero{more_law}, or a FILE.npy with (d, d) or (lanes, d, d)."
SCALE_HELP = "gaussian: standard deviation of an entry; sphere: Frobenius radius (default: 3)."
LANES_HELP = "Number of initialisations, called lanes (default: 4096, or as many as the file of --init has)."
TRAIN_HELP = (
    "What is trained: weights (W), joint (W and the decoder), key-query (W = K Qᵀ; --scale is that of K, Q) or heads "
    "(several W, whose heads are added)"
    "{also_train}."
)
STEPS_HELP = (
    "Horizon: number of updates, such as 2000 or 1e15. Beyond 2,000 lanes of gd and adagrad-norm leap, to more "
    "than a million those of ngd; of other rules every step is made."
)
UNTIL_HELP = (
    "resolved: stop before --steps where no lane is transient or unresolved. 2,000 is tried first, then ten times as "
    "many, where lanes leap a thousand times."
)
SHADOW_HELP = "Beside every lane one that starts 1e-12 away: which verdicts are of rounding. Takes twice as long."
CACHE_HELP = "Folder in which to keep compiled programs; none: keep none (default: among the user's caches)."
ENGINE_HELP = "auto; xla; native: machine code, built at its first use, where there is any."
STEPPING_HELP = "auto; every: no leaps; leap: an error where there can be none."
WIDTH_HELP = "key-query: inner width m of K and Q (default: the smaller side of W)."
HEADS_HELP = "heads: how many (default: 2), all with the decoder of the problem."
NUCLEAR_HELP = "key-query: also hold W against the nuclear-norm att-SVM of every selection."
OPTIONS = ("n", "T", "d", "signal", "noise", "flipped", "tests", "K", "classes", "positions")  # that --data may take
HORIZON = 2000
LANES = 4096
SCALE = 3.0


def named_problems(data: str, given: dict[str, Any], seed: int) -> dict[str, Any]:
    """The problems that `--data` and the options beside it name."""
    import jax

    from jaxsim import data as families

    if data != "digits" and data in families.FAMILIES:
        family = families.FAMILIES[data]
        takes = inspect.signature(family).parameters
        _refuse(data, given, tuple(name for name in takes if name in OPTIONS))
        if "key" in takes:  # apart from every lane's key
            given = {"key": jax.random.fold_in(jax.random.key(seed), 2**32 - 1), **given}
        return {data: family(**given)}
    if data.lower().endswith(".npz"):
        _refuse(data, given, ())
        return {printable(Path(data).stem): families.load(data)}
    if data != "digits":
        raise ValueError(f"data: expected {filled(DATA)}; got {data!r}")
    _refuse(data, given, ("n", "classes", "positions"))
    classes, positions = given.get("classes", "3,8"), given.get("positions", "both")
    if positions not in ("none", "one-hot", "both"):
        raise ValueError(f"positions: expected none, one-hot or both; got {positions!r}")
    try:
        negative, positive = (int(c) for c in classes.split(","))
    except ValueError as error:
        raise ValueError(f"classes: expected two digits, such as 3,8; got {classes!r}") from error
    variants = {"none": (False,), "one-hot": (True,), "both": (False, True)}[positions]
    return {
        f"digits {negative} and {positive}" + (", with positions" if placed else ""): families.digits(
            (negative, positive), given.get("n", 20), placed
        )
        for placed in variants
    }


def _refuse(data: str, given: dict[str, Any], takes: tuple[str, ...]) -> None:
    flags = {"T": "tokens", "d": "dim", "K": "vocabulary"}
    for name in given:
        if name not in takes:
            options = ", ".join(f"--{flags.get(t, t)}" for t in takes) or "no further options"
            raise ValueError(f"--{flags.get(name, name)}: has no meaning for --data {data}, which takes {options}")


def training(
    what: str, width: int | None, nuclear: bool, batch: int | None, heads: int | None, seed: int, problem: Any
) -> Any:
    """What is trained; ValueError where an option has no meaning for it."""
    import jax

    from jaxsim.train import KINDS

    if what not in KINDS:
        raise ValueError(f"train: expected {', '.join(KINDS)}; got {what!r}")
    takes = inspect.signature(KINDS[what]).parameters
    given = {"width": width, "nuclear": nuclear or None, "batch": batch, "heads": heads}
    for name, value in given.items():
        if value is not None and name not in takes:
            raise ValueError(f"--{name}: has no meaning for --train {what}")
    key = jax.random.fold_in(jax.random.key(seed), 2**32 - 2)
    values = {"width": width, "nuclear": nuclear, "batch": batch, "key": key, "heads": 2 if heads is None else heads}
    if width is None and "width" in takes:
        values["width"] = min(problem.W_shape)
    return KINDS[what](**{name: value for name, value in values.items() if name in takes})


def main_rules(data: str, far: bool) -> list[str]:
    """What is run where no rule is asked for: GD, NGD and Polyak's step, and, of digits, GD once more to 10¹² steps."""
    if data != "digits":
        return ["gd=1", "ngd=0.5", "polyak=1"]
    return ["gd=1000", *(["gd=1000@1e12"] if far else []), "ngd=0.5", "polyak=1"]


@dataclasses.dataclass(frozen=True)
class Asked:
    """A rule and a horizon as they were asked for; `own` where the horizon is that of this rule alone."""

    rule: Any
    steps: int
    own: bool

    @property
    def named(self) -> str:
        """What tables and files call it."""
        return repr(self.rule) + (self.further if self.own else "")

    @property
    def record(self) -> list[int] | None:
        """The steps to record of a horizon of its own: beyond those that are made one by one, one per decade."""
        if not self.own or self.steps <= HORIZON:
            return None
        from jaxsim.driver import record_steps

        decades = (10**k for k in range(len(str(HORIZON)), len(str(self.steps))))
        return [*record_steps(HORIZON).tolist(), *(k for k in decades if k < self.steps)]

    @property
    def further(self) -> str:
        """What a horizon of its own adds to a name."""
        return f", {counted(self.steps)} steps"

    def of(self, run: Any) -> Any:
        """The run under the names that were asked for."""
        if not self.own:
            return run
        told = {"rule": self.named, "label": run.settings["label"] + self.further}
        return dataclasses.replace(run, settings=run.settings | told)


def asked_rules(texts: list[str], max_step: float, horizon: int) -> list[Asked]:
    """Every rule of some texts NAME=STEP or NAME=STEP@STEPS, each once."""
    rules = [asked_rule(text, max_step, horizon) for text in texts]
    names = [asked.named for asked in rules]
    for text, name in zip(texts, names, strict=True):
        if names.count(name) > 1:
            raise ValueError(f"rule: {text!r} is given twice")
    return rules


def asked_rule(text: str, max_step: float, horizon: int) -> Asked:
    """The rule of a text, and its horizon: after an @, or that of all."""
    named, _, steps = text.partition("@")
    rule = named_rule(named, max_step)
    if "@" not in text:
        return Asked(rule, horizon, False)
    try:
        return Asked(rule, written_steps(steps), True)
    except ValueError as error:
        raise ValueError(f"rule: {text!r}: {error}") from error


def named_rules(texts: list[str], max_step: float) -> list[Any]:
    """Every rule of some texts NAME=STEP, each once."""
    return [asked.rule for asked in asked_rules(texts, max_step, 1)]


def named_rule(text: str, max_step: float) -> Any:
    """The rule of a text NAME=STEP."""
    from jaxsim.rules import MATRIX_RULES, RULES, SAM, Decayed, numbers_first

    rules = {name: rule for name, rule in (RULES | MATRIX_RULES).items() if numbers_first(rule)}
    name, _, rest = text.partition("=")
    if name not in rules or not rest:
        raise ValueError(f"rule: expected NAME=STEP with a name among {', '.join(rules)}; got {text!r}")
    step, *further = rest.split(",")
    try:
        value = float(step)
    except ValueError as error:
        raise ValueError(f"rule: expected a number after {name}=; got {step!r}") from error
    _, *known = inspect.signature(rules[name]).parameters
    around = {parameter: rule for parameter, rule in (("rate", Decayed), ("rho", SAM)) if parameter not in known}
    given: dict[str, Any] = {"max_step": max_step} if "max_step" in known else {}
    for k, part in enumerate(further):
        parameter, _, written = part.partition("=")
        if any(other.partition("=")[0] == parameter for other in further[:k]):
            raise ValueError(f"rule: {text!r}: {parameter} is given twice")
        if parameter not in (*known, *around) or not written:
            takes = f"NAME=VALUE with a name among {', '.join([*known, *around])}"
            raise ValueError(f"rule: expected {takes} after {name}={step},; got {part!r}")
        given[parameter] = _number_or_word(written)
    wrapped = [(rule, given.pop(parameter)) for parameter, rule in around.items() if parameter in given]
    try:
        rule = rules[name](value, **given)
        for wrap, number in wrapped:
            rule = wrap(rule, number)
        return rule
    except ValueError as error:
        raise ValueError(f"rule: {text!r}: {error}") from error


def _number_or_word(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def named_law(init: str, scale: float | None, lanes: int | None) -> tuple[Any, int]:
    """The law of W_0 and the number of lanes; one lane where all would be the same."""
    from jaxsim import _archive
    from jaxsim import init as laws

    law = laws.LAWS.get(init)
    first = None if law is None else next(iter(inspect.signature(law).parameters.values()), None)
    if scale is not None and first is None:
        raise ValueError(f"--scale: has no meaning for --init {init}")
    if law is laws.Zero:
        return law(), _single(init, lanes)
    if law is not None:
        own = laws.LAWS.source(init) is not None and (first is None or first.default is not first.empty)
        given = [] if first is None or (own and scale is None) else [SCALE if scale is None else scale]
        return law(*given), whole_number("lanes", LANES if lanes is None else lanes)
    if not init.lower().endswith(".npy"):
        known = ", ".join(laws.LAWS)
        raise ValueError(f"init: expected {known} or a FILE.npy; got {init!r}")
    try:
        W0 = _archive.read_array(init)
    except ValueError as error:
        raise ValueError(f"init: expected a readable .npy file at {init!r}; {error}") from error
    if W0.ndim != 3:
        return laws.Given(W0), _single(init, lanes)
    if lanes not in (None, len(W0)):
        raise ValueError(f"lanes: {init!r} holds {len(W0)} matrices; expected --lanes {len(W0)} or none; got {lanes}")
    return laws.Given(W0), whole_number("lanes", len(W0))


def _single(init: str, lanes: int | None) -> int:
    if lanes not in (None, 1):
        raise ValueError(f"lanes: --init {init} is one start, so all lanes would be the same; expected 1; got {lanes}")
    return 1
