"""Classification on real trades and under transformations that must not matter."""

from __future__ import annotations

import numpy as np
import pytest
from freqtrade_logs import NAMES, load_log
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

import trade_telemetry.metrics.classification as tt
from trade_telemetry.metrics.intervals import wilson_interval
from trade_telemetry.store.columns import TraceColumns
from trade_telemetry.trace import DIRECTIONS

codes = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=60)


def split(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(pairs, dtype=np.int8).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def figures(matrix: np.ndarray) -> list[float]:
    "Every figure that is made of a confusion matrix."
    scores = [*tt.direction_scores(matrix).values(), tt.headline_scores(matrix)]
    flat = [x for s in scores for x in (s.precision, s.recall, s.f1_score)]
    return [
        *flat,
        *tt.macro_scores(matrix),
        tt.hit_ratio(matrix),
        tt.balanced_accuracy(matrix),
        tt.mcc(matrix),
        tt.cohen_kappa(matrix),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_equals_scikit_learn_on_real_trades(name: str) -> None:
    traces = load_log(name)
    columns = TraceColumns.from_traces(traces)
    matrix = tt.confusion_matrix(columns.actual, columns.predicted)
    actual = [t.actual_direction for t in traces]
    predicted = [t.predicted_direction for t in traces]
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(actual, predicted, labels=list(DIRECTIONS)))

    def theirs(**how: object) -> np.ndarray:
        return np.array(
            sk.precision_recall_fscore_support(actual, predicted, zero_division=0.0, **how)[:3], dtype=float
        )

    ours = [[s.precision, s.recall, s.f1_score] for s in tt.direction_scores(matrix).values()]
    np.testing.assert_allclose(np.array(ours).T, theirs(labels=list(DIRECTIONS)), rtol=0, atol=1e-12)
    head = tt.headline_scores(matrix)
    taken = {"labels": ["LONG", "SHORT"]}
    np.testing.assert_allclose(
        [head.precision, head.recall, head.f1_score], theirs(**taken, average="micro"), rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(tt.macro_scores(matrix), theirs(**taken, average="macro"), rtol=0, atol=1e-12)
    assert tt.hit_ratio(matrix) == pytest.approx(sk.accuracy_score(actual, predicted), abs=1e-12)
    assert tt.mcc(matrix) == pytest.approx(sk.matthews_corrcoef(actual, predicted), abs=1e-12)
    assert tt.cohen_kappa(matrix) == pytest.approx(sk.cohen_kappa_score(actual, predicted), abs=1e-12)
    recalls = sk.recall_score(actual, predicted, labels=["LONG", "SHORT"], average=None, zero_division=0.0)
    assert tt.balanced_accuracy(matrix) == pytest.approx(recalls.mean(), abs=1e-12)
    all_three = tt.balanced_accuracy(matrix, (0, 1, 2))
    assert all_three == pytest.approx(sk.balanced_accuracy_score(actual, predicted), abs=1e-12)


@pytest.mark.parametrize("name", NAMES[2:])
def test_shorts_of_a_real_log_are_not_judged_by_their_profit(name: str) -> None:
    columns = TraceColumns.from_traces(load_log(name))
    short = columns.predicted == 1
    right = columns.actual[short] == 1
    assert short.sum() > 200
    assert (columns.return_pct[short][right] > 0).mean() > 0.9  # a right SHORT made money, costs aside
    by_profit = (columns.return_pct[short] < -0.3).mean()  # what the literal rule would call its precision
    assert (
        tt.headline_scores(tt.confusion_matrix(columns.actual[short], columns.predicted[short])).precision
        == right.mean()
    )
    assert right.mean() > by_profit


@settings(deadline=None)
@given(codes)
def test_figures_equal_scikit_learn_on_any_input(pairs: list[tuple[int, int]]) -> None:
    actual, predicted = split([*pairs, (0, 0), (1, 1), (2, 2)])
    matrix = tt.confusion_matrix(actual, predicted)
    theirs = sk.precision_recall_fscore_support(actual, predicted, labels=[0, 1, 2], zero_division=0.0)[:3]
    ours = [[s.precision, s.recall, s.f1_score] for s in tt.direction_scores(matrix).values()]
    np.testing.assert_allclose(np.array(ours).T, theirs, rtol=0, atol=1e-12)
    assert tt.mcc(matrix) == pytest.approx(sk.matthews_corrcoef(actual, predicted), abs=1e-12)
    assert tt.cohen_kappa(matrix) == pytest.approx(sk.cohen_kappa_score(actual, predicted), abs=1e-12)


@settings(deadline=None)
@given(codes, st.randoms(use_true_random=False))
def test_row_order_never_changes_a_figure(pairs: list[tuple[int, int]], random: object) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    here, there = tt.confusion_matrix(*split(pairs)), tt.confusion_matrix(*split(shuffled))
    np.testing.assert_array_equal(figures(here), figures(there))


@settings(deadline=None)
@given(codes, st.integers(1, 5))
def test_counts_of_the_parts_add_up_to_those_of_the_whole(pairs: list[tuple[int, int]], parts: int) -> None:
    actual, predicted = split(pairs)
    group = np.arange(len(pairs)) % parts
    by_group = tt.confusion_matrices(group, actual, predicted, parts)
    assert by_group.shape == (parts, 3, 3)
    np.testing.assert_array_equal(by_group.sum(axis=0), tt.confusion_matrix(actual, predicted))
    for k in range(parts):
        np.testing.assert_array_equal(
            by_group[k], tt.confusion_matrix(actual[group == k], predicted[group == k])
        )


@settings(deadline=None)
@given(codes)
def test_a_mirrored_market_swaps_the_sides_and_keeps_everything_else(pairs: list[tuple[int, int]]) -> None:
    mirror = np.array([1, 0, 2], dtype=np.int8)
    actual, predicted = split(pairs)
    here = tt.confusion_matrix(actual, predicted)
    there = tt.confusion_matrix(mirror[actual], mirror[predicted])
    assert tt.headline_scores(here) == tt.headline_scores(there)
    assert tt.direction_scores(here)["LONG"] == tt.direction_scores(there)["SHORT"]
    for figure in (tt.hit_ratio, tt.balanced_accuracy, tt.mcc, tt.cohen_kappa):
        np.testing.assert_allclose(figure(here), figure(there), rtol=0, atol=1e-12)


@settings(deadline=None)
@given(codes)
def test_figures_stay_in_their_range(pairs: list[tuple[int, int]]) -> None:
    matrix = tt.confusion_matrix(*split(pairs))
    values = np.array(figures(matrix))
    known = values[~np.isnan(values)]
    assert ((known >= -1 - 1e-12) & (known <= 1 + 1e-12)).all()
    assert (known[:15] >= 0).all()


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(allow_nan=True), st.integers(0, 2), st.integers(0, 1)), max_size=50))
def test_every_confidence_is_used_missing_or_outside(rows: list[tuple[float, int, int]]) -> None:
    stated = np.array([row[0] for row in rows], dtype=np.float64)
    got = tt.confidence_rows(stated, np.array([r[1] for r in rows]), np.array([r[2] for r in rows]))
    assert len(got.stated) + got.missing + got.outside == len(rows)
    table = tt.reliability_table(got)
    assert sum(b.n for b in table) == len(got.stated)
    assert all(b.low - 1e-12 <= b.stated <= b.high + 1e-12 for b in table if b.n)
    if len(got.stated):
        assert tt.brier_score(got) == pytest.approx(np.mean((got.stated - got.right) ** 2))


def test_the_planted_skill_comes_back_within_its_interval() -> None:
    rng = np.random.default_rng(3)
    predicted = rng.integers(0, 2, 20_000)
    right = rng.random(20_000) < 0.6
    actual = np.where(right, predicted, np.where(rng.random(20_000) < 0.5, 1 - predicted, 2))
    head = tt.headline_scores(tt.confusion_matrix(actual, predicted))
    low, high = wilson_interval(head.right, head.calls, 0.999)
    assert low < 0.6 < high
    assert high - low < 0.03


stated = st.lists(
    st.tuples(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0])), st.booleans()), max_size=60
)


def rows_of(pairs: list[tuple[float, bool]]) -> tt.ConfidenceRows:
    return tt.confidence_rows(
        [p for p, _ in pairs], [0 if right else 1 for _, right in pairs], [0] * len(pairs)
    )


@settings(deadline=None)
@given(stated, st.one_of(st.none(), st.integers(1, 30)))
def test_the_terms_of_the_brier_score_add_up_to_it_with_any_bins(
    pairs: list[tuple[float, bool]], bins: int | None
) -> None:
    rows = rows_of(pairs)
    t = tt.brier_terms(rows, bins)
    added = t.reliability - t.resolution + t.uncertainty + t.within_variance - t.within_covariance
    np.testing.assert_allclose(added, tt.brier_score(rows), rtol=0, atol=1e-12)


@settings(deadline=None)
@given(stated)
def test_auc_and_log_loss_equal_scikit_learn_wherever_it_gives_an_answer(
    pairs: list[tuple[float, bool]],
) -> None:
    rows = rows_of(pairs)
    right = [r for _, r in pairs]
    if len(set(right)) < 2:
        assert np.isnan(tt.auc(rows))
    else:
        assert tt.auc(rows) == pytest.approx(sk.roc_auc_score(right, [p for p, _ in pairs]), abs=1e-12)
    if pairs:
        clipped = np.clip([p for p, _ in pairs], 1e-15, 1 - 1e-15)
        theirs = sk.log_loss(right, clipped, labels=[False, True])
        assert tt.log_loss(rows) == pytest.approx(theirs, rel=1e-9, abs=1e-9)
    else:
        assert np.isnan(tt.log_loss(rows))


@settings(deadline=None)
@given(stated)
def test_the_order_of_rows_and_a_rising_change_of_all_claims_leave_the_auc(
    pairs: list[tuple[float, bool]],
) -> None:
    rows = rows_of([(round(p, 3), right) for p, right in pairs])
    bent = tt.ConfidenceRows(rows.stated / (1 + rows.stated), rows.right, 0, 0)
    np.testing.assert_allclose(tt.auc(bent), tt.auc(rows), atol=1e-12)
    np.testing.assert_allclose(tt.auc(rows_of(pairs[::-1])), tt.auc(rows_of(pairs)), atol=1e-12)
