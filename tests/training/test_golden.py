"""What 20 steps make of small models is what it was when tests/golden/weights.json was written.

What was stable, in processes of their own, on an AMD processor with AVX-512 (TensorFlow 2.21.0, Keras 3.15.1):

| changed | bits of the weights in float32 | in float16 |
|---|---|---|
| nothing, three times | the same | the same |
| two replicas, not one; with oneDNN off or SSE41, too | the same | the same |
| TF_ENABLE_ONEDNN_OPTS=0 | others, by 1.3e-5 | the same |
| ONEDNN_MAX_CPU_ISA=SSE41 | others, by 2e-6 | the same |
| ONEDNN_MAX_CPU_ISA=AVX | others, by 4e-6 | others: norms of kernels by 6e-3, losses by 1.3e-2 |
| ONEDNN_MAX_CPU_ISA=AVX2 | others, by 5e-6 | others: norms of kernels by 6e-3, single numbers by 1 |
| TF_NUM_INTRAOP_THREADS=2, not 1 | others, by 7e-6 | others: norms of kernels by 3e-3, losses by 4e-3 |

Differences are the largest shares of the L2 norm of a variable, slots among them. So a digest holds for a processor's
instruction set, for threads and for versions, of which `golden.fingerprint` is a digest by TensorFlow's operations
alone: each row but the first two has a fingerprint of its own. Where it is not known, numbers have to agree within
`golden.TOLERANCES`, some eight and three times the largest differences above. That finds a sign, a seed that forgets
the step, an epsilon of Adam's of 1e-8, another order of channels and a lost momentum in float32; in float16 a sign.
"""

import warnings

import golden
import numpy as np
import pytest
import tensorflow as tf


@pytest.fixture(scope="module")
def trained(mirrored):
    """What the steps of a case end with, taken once."""
    strategies, found = {1: tf.distribute.get_strategy(), 2: mirrored}, {}

    def find(case):
        if case not in found:
            found[case] = golden.train(case, strategies[case[2]])
        return found[case]

    return find


@pytest.fixture(scope="module")
def digests():
    """The digests of this machine's numerics, or nothing, and a warning."""
    fingerprint = golden.fingerprint()
    known = golden.read()["digests"].get(fingerprint, {})
    if not known:
        warnings.warn(
            f"this machine's numerics ({fingerprint[:12]}) are not in {golden.FILE.name}: weights are compared within"
            f" tolerances only. `make golden ADD=--add` adds its digests",
            stacklevel=2,
        )
    return known


@pytest.mark.parametrize("case", golden.CASES, ids=str)
def test_weights_are_within_the_tolerance_of_the_file_s(case, trained):
    assert golden.differences(case, trained(case), golden.read()["summaries"][golden.name_of(case)]) == []


@pytest.mark.parametrize("case", golden.CASES, ids=str)
def test_where_numerics_are_known_weights_are_those_of_the_file_to_the_last_bit(case, trained, digests):
    if not digests:
        pytest.skip("numerics that are not known: weights are compared within tolerances")
    assert golden.digest(trained(case)) == digests[golden.name_of(case)]


@pytest.mark.parametrize("case", [case for case in golden.CASES if case[2] == 2], ids=str)
def test_two_replicas_do_what_one_does_to_the_last_bit(case, trained):
    alone, both = trained((*case[:2], 1)), trained(case)
    for name, value in alone.items():
        np.testing.assert_array_equal(both[name], value, err_msg=name)


def test_a_number_that_is_off_by_little_more_than_the_tolerance_is_named(random):
    case, held = ("conv", "float32", 1), {"model.weights 0 3x3": random.standard_normal((3, 3)), "losses": np.ones(1)}
    summary = golden.summary(held)
    norm = np.linalg.norm(held["model.weights 0 3x3"])
    for share, told in ((0.5e-4, 0), (2e-4, 1), (np.nan, 1)):
        other = {name: value.copy() for name, value in held.items()}
        other["model.weights 0 3x3"][0, 0] += share * norm
        assert len(golden.differences(case, other, summary)) == told
    assert golden.differences(case, {"losses": np.ones(1)}, summary) == ["other variables: ['model.weights 0 3x3']"]


def test_the_digest_is_of_names_types_and_bits():
    one = {"a": np.zeros(2, np.float32)}
    others = [{"b": one["a"]}, {"a": np.zeros(1, np.float64)}, {"a": np.float32([0, -0.0])}]
    assert all(golden.digest(other) != golden.digest(one) for other in others)
    assert golden.digest({"a": np.zeros(2, np.float32)}) == golden.digest(one)
