"""The data of one attention head: what every other part of the package starts from."""

import dataclasses
import functools
import hashlib
import math
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsim._check import finite_array, ties_in_top_score
from jaxsim._exact import dot_of_differences

LARGEST, SMALLEST = 1e150, 1e-150  # of scores, and of token times query: their squares stay numbers in float64


def check_problem(problem: Any) -> None:
    """Refuse what is no problem; of a result, which has one, say so."""
    if not isinstance(problem, Problem):
        has = "; its .problem is one" if isinstance(getattr(problem, "problem", None), Problem) else ""
        raise ValueError(f"problem: expected a jaxsim.Problem; got {type(problem).__name__}{has}")


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    r"""n labelled sequences of T tokens, one query each, and a linear decoder.

    The model computes the attention logits and margins

        a_it = x_itᵀ W z_i,   φ_i = softmax(a_i),   m_i = Σ_t φ_it s_it,   s_it = y_i uᵀ x_it.

    Queries may have another dimension e than tokens; W is then d × e. Where keys k_it are given, logits see them in
    place of the tokens, which keep the scores: a_it = k_itᵀ W z_i.

    All arrays are kept on the host in float64, whatever precision the simulation runs in.

    Args:
        tokens: x, shape (n, T, d).
        queries: z, shape (n, e), with e = d in most uses; or, for self-attention, the index of the query token, one
            integer for all sequences or one for each, shape (n,).
        labels: y, shape (n,), each +1 or -1.
        decoder: u, shape (d,), not zero.
        mask: True where a token exists, shape (n, T); None when all sequences have T tokens.
        keys: what logits see of the tokens, shape (n, T, k); by default the tokens themselves.
        test: another problem with W of the same shape and the same d, on whose sequences nothing is trained: a run
            follows how many of their labels it predicts, with the decoder of this problem or the one it trains.

    Raises:
        ValueError: where an argument has the wrong shape or value; the message names the argument, what
            was expected and what came. Duplicate tokens (of given keys, duplicate keys) within a sequence, and ties for
            its top score, are refused because the limit of the dynamics would not be defined.

    Reference:
        Vasudeva, Deora, Thrampoulidis, arXiv 2402.05738; symbols as in model/README.md.

    Example:
        >>> import numpy as np, jaxsim
        >>> x = np.array([[[1.0, 0.0], [0.0, 1.0]]])
        >>> problem = jaxsim.Problem(tokens=x, queries=0, labels=[1], decoder=[1.0, 0.0])
        >>> problem.shape, problem.optimal.tolist()
        ((1, 2, 2), [0])
    """

    tokens: Float[np.ndarray, "n T d"]
    queries: Float[np.ndarray, "n e"]
    labels: Float[np.ndarray, " n"]
    decoder: Float[np.ndarray, " d"]
    mask: Bool[np.ndarray, "n T"] | None = None
    given_keys: Float[np.ndarray, "n T k"] | None = None
    test: Any = None

    def __init__(
        self,
        tokens: Any,
        queries: Any,
        labels: Any,
        decoder: Any,
        mask: Any = None,
        keys: Any = None,
        test: "Problem | None" = None,
    ):
        x = finite_array("tokens", tokens, (None, None, None), "(n, T, d)")
        n, T, d = x.shape
        if n < 1 or T < 2 or d < 1:
            raise ValueError(
                "tokens: expected at least n = 1 sequence, T = 2 tokens and d = 1 dimension; "
                f"got shape (n, T, d) = {x.shape}. With one token there is nothing to attend to."
            )
        y = finite_array("labels", labels, (n,), "(n,)")
        if not np.all(np.abs(y) == 1):
            raise ValueError(f"labels: expected +1 or -1; got {sorted(set(y[np.abs(y) != 1].tolist()))[:5]}")
        u = finite_array("decoder", decoder, (d,), "(d,)")
        if not np.any(u):
            raise ValueError("decoder: expected a non-zero vector; got all zeros, so every score would be 0")
        visible = _visible(mask, n, T)
        z = _queries(queries, x, visible)
        put = object.__setattr__
        k = None if keys is None else finite_array("keys", keys, (n, T, None), "(n, T, k)")
        for name, value in dict(tokens=x, queries=z, labels=y, decoder=u, mask=visible, given_keys=k).items():
            if value is not None:
                value.flags.writeable = False
            put(self, name, value)
        _refuse_sizes("tokens" if k is None else "keys", self.keys, z)
        _refuse_scores(x, u)
        _refuse_duplicates("tokens" if k is None else "keys", self.keys, visible)
        ties_in_top_score(self.scores, visible)
        put(self, "test", _other_sequences(self, test))

    def __repr__(self):
        n, T, d = self.tokens.shape
        masked = "" if self.mask is None else ", masked"
        tests = "" if self.test is None else f", {len(self.test.labels)} tests"
        return f"Problem(n={n}, T={T}, d={d}{masked}{tests})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n, T, d)."""
        n, T, d = self.tokens.shape
        return n, T, d

    @property
    def keys(self) -> Float[np.ndarray, "n T k"]:
        """What logits see of the tokens."""
        return self.tokens if self.given_keys is None else self.given_keys

    @property
    def W_shape(self) -> tuple[int, int]:
        """The shape of W: (d, d) in self-attention."""
        return self.keys.shape[2], self.queries.shape[1]

    @functools.cached_property
    def scores(self) -> Float[np.ndarray, "n T"]:
        """Token scores s_it = y_i uᵀ x_it."""
        return self.labels[:, None] * dot_of_differences(self.decoder, self.tokens, np.zeros(1))

    @property
    def visible(self) -> Bool[np.ndarray, "n T"]:
        """The mask, all True where none was given."""
        return np.ones(self.tokens.shape[:2], bool) if self.mask is None else self.mask

    @functools.cached_property
    def optimal(self) -> Int[np.ndarray, " n"]:
        """opt_i = argmax_t s_it, over the visible tokens."""
        near = np.where(self.visible, self.scores, -np.inf).argmax(1)
        return np.where(self.visible, self._below(near), np.inf).argmin(1)

    @functools.cached_property
    def deficits(self) -> Float[np.ndarray, "n T"]:
        """s_{i,opt} - s_it = y_i uᵀ(x_{i,opt} - x_it), with all the digits that the difference has."""
        return self._below(self.optimal)

    def _below(self, alpha: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n T"]:
        """How far the tokens of each sequence score below one of them."""
        selected = self.tokens[np.arange(len(alpha)), alpha][:, None]
        return self.labels[:, None] * dot_of_differences(self.decoder, selected, self.tokens)

    def fingerprint(self) -> str:
        """A hash of the content: equal for equal problems on every machine."""
        digest = hashlib.sha256()
        leaves = [self.tokens, self.queries, self.labels, self.decoder, self.visible]
        if self.given_keys is not None:
            leaves.append(self.given_keys)
        for leaf in leaves:
            digest.update(repr((leaf.shape, leaf.dtype.str)).encode())
            digest.update(np.ascontiguousarray(leaf).tobytes())
        if self.test is not None:
            digest.update(self.test.fingerprint().encode())
        return digest.hexdigest()

    def tree_flatten(self):
        """Leaves for jax.tree_util; unflattening does not validate, so leaves may be tracers."""
        return (self.tokens, self.queries, self.labels, self.decoder, self.mask, self.given_keys, self.test), None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        """Rebuild from leaves without validation."""
        problem = object.__new__(cls)
        for field, leaf in zip(dataclasses.fields(cls), leaves, strict=True):
            object.__setattr__(problem, field.name, leaf)
        return problem


def _other_sequences(problem: Problem, test: Any) -> Problem | None:
    """Test sequences, held against the problem that they are of."""
    if test is None:
        return None
    if not isinstance(test, Problem) or test.test is not None:
        raise ValueError(f"test: expected a jaxsim.Problem without tests of its own; got {test!r}")
    (d, e), found = problem.W_shape, (test.W_shape, test.shape[2])
    if found != ((d, e), problem.shape[2]):
        raise ValueError(
            f"test: expected W of shape {(d, e)} and d = {problem.shape[2]}; got {found[0]} and {found[1]}"
        )
    if np.array_equal(test.decoder, problem.decoder):
        return test
    try:
        return Problem(test.tokens, test.queries, test.labels, problem.decoder, test.mask, test.given_keys)
    except ValueError as error:
        raise ValueError(f"test: under the decoder of this problem: {error}") from error


def _visible(mask: Any, n: int, T: int) -> Bool[np.ndarray, "n T"] | None:
    if mask is None:
        return None
    m = np.array(mask)
    if m.shape != (n, T) or m.dtype != bool:
        raise ValueError(f"mask: expected booleans of shape (n, T) = {(n, T)}; got {m.dtype} of shape {m.shape}")
    if not m.any(1).all():
        raise ValueError(
            f"mask: expected a visible token in every sequence; sequence {int(np.argmin(m.any(1)))} has none"
        )
    if not (m.sum(1) > 1).any():
        raise ValueError("mask: expected a sequence with at least two visible tokens; every sequence has one")
    return None if m.all() else m


def _queries(queries: Any, x: np.ndarray, visible: np.ndarray | None) -> np.ndarray:
    n, T, _ = x.shape
    q = np.asarray(queries)
    if q.ndim == 2 or not np.issubdtype(q.dtype, np.integer):
        return finite_array(
            "queries", queries, (n, None), f"(n, e) with n = {n}, or integers: an index into the tokens"
        )
    if q.shape not in ((), (n,)):
        raise ValueError(f"queries: expected one index, n = {n} indices or shape (n, e); got shape {q.shape}")
    index = np.broadcast_to(q, (n,))
    if index.min() < 0 or index.max() >= T:
        raise ValueError(
            f"queries: expected token indices from 0 to T - 1 = {T - 1}; got {index.min()} to {index.max()}"
        )
    if visible is not None and not visible[np.arange(n), index].all():
        hidden = int(np.argmin(visible[np.arange(n), index]))
        raise ValueError(f"mask: hides the query token {index[hidden]} of sequence {hidden}; expected it visible")
    return x[np.arange(n), index].copy()


def _refuse_sizes(name: str, x: np.ndarray, z: np.ndarray) -> None:
    """Refuse tokens (or keys) and queries whose products have no square; what is all zero is left alone."""
    size, by = np.abs(x).max(), np.abs(z).max(initial=0.0)
    both = math.log10(size) + math.log10(by) if size > 0 and by > 0 else 0.0
    if not math.log10(SMALLEST) < both < math.log10(LARGEST):
        name, by = (name, size) if abs(np.log10(size)) >= abs(np.log10(by)) else ("queries", by)
        raise ValueError(
            f"{name}: expected {name} times {'tokens' if name == 'queries' else 'queries'} from {SMALLEST:g} to "
            f"{LARGEST:g}, so that their squares are numbers in float64; got 1e{both:.0f}, with {name} up to {by:.3g}"
        )


def _refuse_scores(x: np.ndarray, u: np.ndarray) -> None:
    """Refuse scores whose squares overflow."""
    with np.errstate(over="ignore", invalid="ignore"):
        largest = np.abs(x @ u).max()
    if not (largest < LARGEST and np.abs(u).max() < LARGEST):
        shown = max(largest, np.abs(u).max()) if np.isfinite(largest) else "more than float64 holds"
        raise ValueError(
            f"decoder: expected entries and scores uᵀx below {LARGEST:g}, so that their squares are numbers in "
            f"float64; got {shown}"
        )


def _refuse_duplicates(name: str, x: np.ndarray, visible: np.ndarray | None) -> None:
    """Refuse two equal tokens in a sequence, in memory that grows like the tokens and not like their pairs."""
    # Equal rows have equal sums of their bits times odd words; adding 0 makes -0 and 0 the same.
    words = np.random.default_rng(0).integers(2**64, size=x.shape[2], dtype=np.uint64) | np.uint64(1)
    hashes = ((x + 0.0).view(np.uint64) * words).sum(-1, dtype=np.uint64)
    if visible is not None:
        hashes = np.where(visible, hashes, np.arange(x.shape[1], dtype=np.uint64))
    order = np.sort(hashes, axis=1)
    for i in np.flatnonzero((order[:, 1:] == order[:, :-1]).any(1)).tolist():
        first: dict[bytes, int] = {}
        for t in range(x.shape[1]) if visible is None else np.flatnonzero(visible[i]).tolist():
            other = first.setdefault((x[i, t] + 0.0).tobytes(), t)
            if other != t:
                raise ValueError(
                    f"{name}: expected distinct {name} within a sequence; {name} {other} and {t} of sequence {i} are "
                    "equal. Hide one of them with the mask, or append positions to the tokens."
                )
