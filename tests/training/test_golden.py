"""Small models after 20 training steps equal those of the time when tests/golden/weights.json was written.

What stayed the same in separate processes on an AMD CPU with AVX-512 (TensorFlow 2.21.0, Keras 3.15.1):

| change | weights in float32 | in float16 |
|---|---|---|
| none, three times | same bits | same bits |
| two replicas instead of one; also with oneDNN off or SSE41 | same bits | same bits |
| TF_ENABLE_ONEDNN_OPTS=0 | differ by 1.3e-5 | same bits |
| ONEDNN_MAX_CPU_ISA=SSE41 | differ by 2e-6 | same bits |
| ONEDNN_MAX_CPU_ISA=AVX | differ by 4e-6 | norms of kernels differ by 6e-3, losses by 1.3e-2 |
| ONEDNN_MAX_CPU_ISA=AVX2 | differ by 5e-6 | norms of kernels differ by 6e-3, single values by 1 |
| TF_NUM_INTRAOP_THREADS=2 instead of 1 | differ by 7e-6 | norms of kernels differ by 3e-3, losses by 4e-3 |

Differences are the largest ones relative to the L2 norm of a variable, slots included. So a digest holds for an
instruction set, a number of threads and versions, of which `golden.fingerprint` is a digest by TensorFlow's operations
alone: each row but the first two has another fingerprint. For an unknown one, values have to agree within
`golden.TOLERANCES`, some eight and three times the largest differences above. That detects a sign, a seed that ignores
the step, an epsilon of Adam of 1e-8, another channel order and a missing momentum in float32; in float16 a sign.
"""

import warnings

import golden
import numpy as np
import pytest
import tensorflow as tf


@pytest.fixture(scope="module")
def trained(mirrored):
    """The variables of a case after its steps, which are taken once."""
    strategies, results = {1: tf.distribute.get_strategy(), 2: mirrored}, {}

    def get(case):
        if case not in results:
            results[case] = golden.train(case, strategies[case[2]])
        return results[case]

    return get


@pytest.fixture(scope="module")
def digests():
    """The digests for this machine's fingerprint; none, and a warning, if it is unknown."""
    fingerprint = golden.fingerprint()
    known = golden.read()["digests"].get(fingerprint, {})
    if not known:
        warnings.warn(
            f"this machine's fingerprint ({fingerprint[:12]}) is not in {golden.FILE.name}: weights are compared within"
            f" tolerances only. `make golden ADD=--add` adds its digests",
            stacklevel=2,
        )
    return known


@pytest.mark.parametrize("case", golden.CASES, ids=str)
def test_weights_are_within_tolerance(case, trained):
    assert golden.differences(case, trained(case), golden.read()["summaries"][golden.case_name(case)]) == []


@pytest.mark.parametrize("case", golden.CASES, ids=str)
def test_weights_have_the_same_bits_on_a_known_machine(case, trained, digests):
    if not digests:
        pytest.skip("unknown fingerprint: weights are compared within tolerances")
    assert golden.digest(trained(case)) == digests[golden.case_name(case)]


@pytest.mark.parametrize("case", [case for case in golden.CASES if case[2] == 2], ids=str)
def test_two_replicas_give_the_same_bits_as_one(case, trained):
    one, two = trained((*case[:2], 1)), trained(case)
    for name, value in one.items():
        np.testing.assert_array_equal(two[name], value, err_msg=name)


def test_difference_slightly_above_the_tolerance_is_reported(random):
    case, variables = (
        ("conv", "float32", 1),
        {"model.weights 0 3x3": random.standard_normal((3, 3)), "losses": np.ones(1)},
    )
    summary = golden.summary(variables)
    norm = np.linalg.norm(variables["model.weights 0 3x3"])
    for difference, num_lines in ((0.5e-4, 0), (2e-4, 1), (np.nan, 1)):
        other = {name: value.copy() for name, value in variables.items()}
        other["model.weights 0 3x3"][0, 0] += difference * norm
        assert len(golden.differences(case, other, summary)) == num_lines
    assert golden.differences(case, {"losses": np.ones(1)}, summary) == ["other variables: ['model.weights 0 3x3']"]


def test_digest_depends_on_names_types_and_bits():
    one = {"a": np.zeros(2, np.float32)}
    others = [{"b": one["a"]}, {"a": np.zeros(1, np.float64)}, {"a": np.float32([0, -0.0])}]
    assert all(golden.digest(other) != golden.digest(one) for other in others)
    assert golden.digest({"a": np.zeros(2, np.float32)}) == golden.digest(one)
