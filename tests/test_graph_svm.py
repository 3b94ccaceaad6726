"""The graph-SVM of next-token prediction: certificate, another solver, the att-SVM, the finite part."""

import jax
import numpy as np
import pytest

import jaxsim
from jaxsim.margin import finite_part, graph_svm


def drawn(seed, n=8, T=4, K=6, d=8):
    rng = np.random.default_rng(seed)
    sequences = np.stack([rng.permutation(K)[:T] for _ in range(n)])
    return rng.standard_normal((K, d)), sequences, sequences[np.arange(n), rng.integers(0, T, n)]


def constraints(svm):
    """Equalities and margins, one matrix each, straight from the definition."""
    equal, apart = [], []
    e = svm.embeddings
    for tokens, chosen, components in zip(svm.sequences, svm.chosen, svm.components, strict=True):
        for t in np.flatnonzero(chosen):
            for s in np.flatnonzero(tokens != tokens[t]):
                row = np.outer(e[tokens[t]] - e[tokens[s]], e[tokens[-1]])
                (equal if components[s] == components[t] else apart).append(row)
    return np.array(equal).reshape(-1, *svm.W.shape), np.array(apart).reshape(-1, *svm.W.shape)


def mutual(sequences, labels, K):
    """Which pairs of tokens reach each other, for each last token, by powers of the graph."""
    found = {}
    for k in np.unique(sequences[:, -1]):
        reach = np.eye(K, dtype=int)
        for tokens, label in zip(sequences, labels, strict=True):
            if tokens[-1] == k:
                reach[label, tokens] = 1
        reach = np.linalg.matrix_power(reach, K) > 0
        found[k] = reach & reach.T
    return found


@pytest.mark.parametrize("seed", range(12))
def test_the_graph_svm_is_certified_and_independent_of_order(seed):
    e, sequences, labels = drawn(seed)
    svm = graph_svm(e, sequences, labels)
    assert svm.status == "optimal" and svm.gap <= 1e-9 and svm.slack <= 1e-12
    pairs = mutual(sequences, labels, len(e))
    for tokens, components in zip(sequences, svm.components, strict=True):
        np.testing.assert_array_equal(components[:, None] == components, pairs[tokens[-1]][np.ix_(tokens, tokens)])
    equal, apart = constraints(svm)
    size = float(np.linalg.norm(svm.W))
    assert np.abs((equal * svm.W).sum((1, 2))).max(initial=0.0) < 1e-11 * size
    assert (apart * svm.W).sum((1, 2)).min() == pytest.approx(1.0, abs=1e-11)
    assert svm.norm == pytest.approx(size, rel=1e-14)
    order = np.random.default_rng(seed).permutation(len(sequences))
    np.testing.assert_allclose(graph_svm(e, sequences[order], labels[order]).W, svm.W, atol=1e-11 * size)


@pytest.mark.parametrize("seed", range(3))
def test_the_graph_svm_agrees_with_another_solver(seed):
    cp = pytest.importorskip("cvxpy")
    svm = graph_svm(*drawn(seed))
    equal, apart = (rows.reshape(len(rows), svm.W.size) for rows in constraints(svm))
    w = cp.Variable(svm.W.size)
    bounds = [apart @ w >= 1] + ([equal @ w == 0] if len(equal) else [])
    cp.Problem(cp.Minimize(cp.sum_squares(w)), bounds).solve(solver=cp.CLARABEL)
    np.testing.assert_allclose(w.value.reshape(svm.W.shape), svm.W, atol=1e-6 * svm.norm)


def test_without_cycles_it_is_the_att_svm_of_the_labels():
    e, sequences, labels = drawn(0, n=6)
    label = np.sort(sequences, axis=1)[:, 0]  # the least token outranks the others: no cycle
    svm = graph_svm(e, sequences, label)
    u = np.random.default_rng(0).standard_normal(8)
    problem = jaxsim.Problem(e[sequences], 3, np.ones(6), u)
    mm = jaxsim.max_margin(problem, (sequences == label[:, None]).argmax(1))
    np.testing.assert_allclose(svm.W, mm.W, atol=1e-10 * mm.norm)
    assert svm.cyclic.shape == (8, 8, 0) and finite_part(svm)[0].any() == False  # noqa: E712


@pytest.mark.parametrize(
    ("sequences", "labels"),
    [
        ([[1, 0, 2]], [1]),  # on a line, the middle token does not outrank both ends
        ([[0, 1, 2], [1, 0, 2], [0, 1, 3]], [0, 1, 0]),  # equal tokens pin W to zero
    ],
)
def test_no_solution_is_proved(sequences, labels):
    svm = graph_svm([[1.0], [2.0], [3.0], [4.0]], sequences, labels)
    assert svm.status == "infeasible" and svm.norm == np.inf and np.isnan(svm.W).all()


def test_tokens_that_all_reach_each_other_need_no_direction():
    ring = graph_svm(np.eye(3), [[0, 1, 2], [0, 1, 2], [0, 1, 2]], [0, 1, 2])
    assert ring.status == "optimal" and ring.norm == 0.0 and not ring.W.any()


def test_the_finite_part_is_the_minimiser_on_the_cyclic_subspace():
    e, sequences, labels = drawn(3, n=14, T=5)
    svm = graph_svm(e, sequences, labels)
    W, slope = finite_part(svm)
    assert slope < 1e-12 and svm.cyclic.shape[2] > 1
    own = np.take_along_axis(svm.components, svm.chosen.argmax(1)[:, None], 1)
    member = svm.components == own

    def loss(c):
        logits = jax.numpy.einsum("itd,de,ie->it", e[sequences], svm.cyclic @ c, e[sequences[:, -1]])
        logits = jax.numpy.where(member, logits, -jax.numpy.inf)
        return -(jax.nn.log_softmax(logits, axis=1)[svm.chosen]).mean()

    c = np.einsum("der,de->r", svm.cyclic, W)
    np.testing.assert_allclose(svm.cyclic @ c, W, atol=1e-12)
    np.testing.assert_allclose(jax.grad(loss)(c), 0.0, atol=1e-12)
    twice = graph_svm(e, np.concatenate([sequences[:, :1], sequences], axis=1), labels)
    assert finite_part(twice)[1] < 1e-12  # repeated tokens, of which the label may be one


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen": [0, 5]}, "chosen: expected a token of each sequence; sequence 1 has none"),
        ({"chosen": [0.0, 1.0]}, "chosen: expected 2 token numbers"),
        ({"sequences": [[0, 1, 6], [1, 0, 2]]}, "sequences: expected tokens from 0 to K - 1 = 5; got some from 0 to 6"),
        ({"sequences": [0, 1]}, "sequences: expected token numbers of shape"),
        ({"embeddings": np.ones((6, 2))}, "embeddings: expected distinct rows"),
    ],
)
def test_bad_input_is_explained(change, message):
    given = {"embeddings": np.eye(6), "sequences": [[0, 1, 2], [1, 0, 2]], "chosen": [0, 1]} | change
    with pytest.raises(ValueError, match=message):
        graph_svm(**given)


def test_one_label_is_asked_for():
    several = graph_svm(np.eye(3), [[0, 1, 2]], [[True, True, False]])
    with pytest.raises(ValueError, match="svm: expected one chosen token in each sequence; some have several"):
        finite_part(several)
