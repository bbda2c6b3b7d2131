"""Initial weights: their moments and bounds by name and shape, their seeds, and what `get` takes for one."""

import copy
import json
import math
import pickle

import numpy as np
import pytest

from gpumlp import Sequential, initializers, layers, random, saving, utils

SHAPES = [(300, 200), (40, 1000), (5, 6, 20, 50), (20000,)]
FANS = {(300, 200): (300, 200), (40, 1000): (40, 1000), (5, 6, 20, 50): (600, 1500), (20000,): (20000, 20000)}
SCALED = {
    "glorot_uniform": (1.0, "avg"), "glorot_normal": (1.0, "avg"), "he_uniform": (2.0, "in"), "he_normal": (2.0, "in"),
    "lecun_uniform": (1.0, "in"), "lecun_normal": (1.0, "in"), "variance_scaling": (1.0, "in"),
}  # fmt: skip
RANDOM = [*SCALED, "random_normal", "random_uniform", "truncated_normal", "orthogonal"]


def check_moments(values, deviation, bound):
    """Zero mean, that standard deviation, and nothing beyond the bound, but close to it."""
    error = deviation / math.sqrt(values.size)
    assert abs(values.mean()) < 5 * error and abs(values.std() / deviation - 1) < 5 / math.sqrt(values.size)
    assert 0.97 * bound < np.abs(values).max() <= bound * (1 + 1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", SCALED)
def test_variance_by_fans(name, shape):
    (scale, kind), (inputs, outputs) = SCALED[name], FANS[shape]
    deviation = math.sqrt(scale / (inputs if kind == "in" else (inputs + outputs) / 2))
    bound = math.sqrt(3) if "uniform" in name else 2 / 0.87962566103423978
    check_moments(initializers.get({"class_name": name, "config": {"seed": 1}})(shape), deviation, bound * deviation)


@pytest.mark.parametrize("mode", initializers.MODES)
@pytest.mark.parametrize("distribution", [*initializers.DISTRIBUTIONS, "normal", "Uniform"])
def test_every_mode_and_distribution(mode, distribution):
    fan = {"fan_in": 300, "fan_out": 200, "fan_avg": 250}[mode]
    values = initializers.VarianceScaling(0.5, mode, distribution, 3)((300, 200), "float64")
    assert values.std() == pytest.approx(math.sqrt(0.5 / fan), rel=0.02)
    beyond = np.abs(values).max() * math.sqrt(fan / 0.5)
    assert {"u": 1.7 < beyond < 1.74, "t": 2.2 < beyond < 2.28, "n": 2.2 < beyond < 2.28}.get(
        distribution.lower()[0] if distribution != "untruncated_normal" else "", beyond > 3
    )


def test_fans_of_given_axes():
    fans = initializers.compute_fans
    assert [fans(s) for s in ((), (7,), (7, 8), (2, 3, 7, 8))] == [(1, 1), (7, 7), (7, 8), (42, 48)]
    assert fans((512, 8, 64), [0], [1, 2]) == (512, 512) and fans((512, 8, 64), (0, 1), (-1,)) == (4096, 64)
    values = initializers.HeNormal(5, [0], [1, 2])((32, 40, 16))
    assert values.std() == pytest.approx(math.sqrt(2 / 32), rel=0.02)
    with pytest.raises(ValueError, match=r"must be axes of shape \(3, 2\); got 2"):
        initializers.GlorotUniform(1, [0], [2])((3, 2))


def test_normal_and_uniform():
    normal = initializers.RandomNormal(0.5, 0.1, 1)((300, 200))
    assert normal.mean() == pytest.approx(0.5, abs=2e-3) and normal.std() == pytest.approx(0.1, rel=0.02)
    assert np.abs(normal - 0.5).max() > 0.35
    truncated = initializers.TruncatedNormal(0.5, 0.1, 1)((300, 200))
    check_moments(truncated - 0.5, 0.1 * 0.87962566103423978, 0.2)
    uniform = initializers.RandomUniform(-1, 3, 1)((300, 200))
    check_moments(uniform - 1, 4 / math.sqrt(12), 2)
    assert (initializers.RandomNormal(seed=1).stddev, initializers.RandomUniform().maxval) == (0.05, 0.05)


@pytest.mark.parametrize("shape", [(5, 5), (30, 7), (7, 30), (2, 3, 4), (2, 3, 20)], ids=str)
def test_orthogonal_columns_or_rows(shape):
    values = initializers.Orthogonal(2.0, 7)(shape, "float64").reshape(-1, shape[-1])
    rows, columns = values.shape
    product = values.T @ values if rows >= columns else values @ values.T
    np.testing.assert_allclose(product, 4 * np.eye(min(rows, columns)), atol=1e-12)


def test_every_orthogonal_matrix_is_as_likely():
    """A fixed sign of R's diagonal would show as a mean."""
    drawn = np.array([initializers.Orthogonal(seed=k)((2, 2)) for k in range(600)])
    assert (np.abs(drawn.mean(0)) < 0.15).all()


def test_without_random_numbers():
    assert initializers.Identity(2)((2, 3)).tolist() == [[2, 0, 0], [0, 2, 0]]
    assert initializers.Zeros()((2,)).tolist() == [0, 0] and initializers.get("one")((2,)).tolist() == [1, 1]
    assert initializers.Constant(np.array([1.0, 2.0]))((2, 2)).tolist() == [[1, 2], [1, 2]]


# ---- seeds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RANDOM)
def test_seeds(name):
    kind, shape = initializers.KNOWN[name], (6, 5)
    seeded = kind(seed=3)
    first = seeded(shape)
    for other in (seeded, kind(seed=np.int64(3)), seeded.clone(), pickle.loads(pickle.dumps(seeded))):
        assert other == seeded and (other(shape) == first).all()
    assert not (kind(seed=4)(shape) == first).all()
    np.testing.assert_allclose(seeded(shape, "float64"), first, rtol=1e-6)

    unseeded = kind()
    utils.set_random_seed(11)
    drawn = [unseeded(shape), unseeded(shape)]
    utils.set_random_seed(11)
    assert (kind()(shape) == drawn[0]).all() and (kind()(shape) == drawn[1]).all()
    assert not (drawn[0] == drawn[1]).all()

    steps = kind(seed=random.SeedGenerator(3))
    drawn = [steps(shape), steps(shape)]
    again = kind(seed=random.SeedGenerator(3))
    assert all((again(shape) == each).all() for each in drawn) and not (drawn[0] == drawn[1]).all()
    revived = kind.from_config(json.loads(json.dumps(steps.get_config())))
    assert (revived(shape) == drawn[0]).all() and revived.get_config() == steps.get_config()


def test_a_seed_generator_begins_where_its_seed_says():
    assert [random.SeedGenerator(5).next().tolist() for _ in range(2)] == [[5, 0]] * 2
    utils.set_random_seed(2)
    one = random.SeedGenerator()
    utils.set_random_seed(2)
    assert (random.SeedGenerator().next() == one.next()).all() and one.next()[1] == 1
    assert random.SeedGenerator(5, "mine").get_config() == {"seed": 5, "name": "mine"}
    for wrong in (-1, True, "1", 0.5):
        with pytest.raises(ValueError, match="seed must be a whole number"):
            random.SeedGenerator(wrong)


# ---- names, configs, a user's own ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", dict.fromkeys(initializers.KNOWN.values()), ids=lambda kind: kind.__name__)
def test_configs_make_the_same_again(kind):
    made = kind()
    described = initializers.serialize(made)
    assert described["class_name"] == kind.__name__ and described["module"] == "keras.initializers"
    for config in (described, json.loads(json.dumps(described)), {"class_name": kind.__name__, "config": None}):
        assert initializers.deserialize(config) == made == saving.deserialize_keras_object(described)
    assert getattr(initializers, kind.__name__) is kind and initializers.get(kind) == made == copy.deepcopy(made)


def test_aliases():
    for name, kind in {
        "normal": "RandomNormal", "uniform": "RandomUniform", "zero": "Zeros", "one": "Ones",
        "IdentityInitializer": "Identity", "OrthogonalInitializer": "Orthogonal", "LecunNormal": "LecunNormal",
    }.items():  # fmt: skip
        assert type(initializers.get(name)).__name__ == kind
    assert initializers.get(None) is None


def test_the_config_of_an_array():
    one = initializers.Constant(np.arange(3.0))
    described = initializers.serialize(one)
    assert described["config"]["value"] == {
        "class_name": "__numpy__", "config": {"value": [0, 1, 2], "dtype": "float64"}
    }  # fmt: skip
    assert initializers.deserialize(described) == one != initializers.Constant(np.arange(4.0))


def test_an_array_is_the_weights_of_its_shape_alone():
    given = np.arange(6.0).reshape(3, 2)
    get = initializers.get(given)
    given[0] = 9
    assert get((3, 2)).tolist() == [[0, 1], [2, 3], [4, 5]] and get((3, 2)).dtype == np.float32
    model = Sequential([layers.Input((3,)), layers.Dense(2, kernel_initializer=np.ones((3, 2)))])
    assert (model.get_weights()[0] == 1).all()
    with pytest.raises(ValueError, match=r"shape of the weights: \(3, 4\); got \(3, 2\)"):
        Sequential([layers.Input((3,)), layers.Dense(4, kernel_initializer=np.ones((3, 2)))])


def test_a_user_s_own():
    def halves(shape, dtype=None):
        return np.full(shape, 0.5, dtype)

    class Thirds:
        def __call__(self, shape, dtype=None):
            return np.full(shape, 1 / 3, dtype)

    class Fourths(initializers.Initializer):
        def __init__(self, times=1):
            self.times = times

        def __call__(self, shape, dtype=None):
            return np.full(shape, self.times / 4, dtype)

    for own, value in ((halves, 1 / 2), (Thirds, 1 / 3), (Thirds(), 1 / 3), (Fourths, 1 / 4), (Fourths(3), 3 / 4)):
        layer = layers.Dense(2, kernel_initializer=own, bias_initializer=own)
        layer.build((None, 3))
        assert all((w == np.float32(value)).all() for w in layer.get_weights())
    described = initializers.serialize(Fourths(3))
    assert described["class_name"] == described["registered_name"] == "Fourths" and described["config"] == {"times": 3}
    assert initializers.deserialize(described, {"Fourths": Fourths}) == Fourths(3) != Fourths(2)
    with saving.custom_object_scope({"halves": halves}):
        assert initializers.get("halves") is halves is initializers.deserialize(initializers.serialize(halves))
    with pytest.raises(ValueError, match="Unknown initializer 'Fourths'"):
        initializers.deserialize(described)
    with pytest.raises(NotImplementedError, match=r"Initializer must have a method __call__\(self, shape"):
        initializers.Initializer()((3,))


def test_none_is_keras_s_default():
    layer = layers.Dense(2, kernel_initializer=None)
    assert layer.kernel_initializer == initializers.GlorotUniform()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: initializers.VarianceScaling(0), "scale must be a finite number > 0"),
        (lambda: initializers.VarianceScaling(mode="fan"), "mode must be one of fan_in, fan_out, fan_avg; got 'fan'"),
        (lambda: initializers.VarianceScaling(distribution="x"), "distribution must be one of uniform"),
        (lambda: initializers.VarianceScaling(input_axes=[0]), "go together"),
        (lambda: initializers.HeNormal(1, 0, 1), "input_axes must be a list of whole numbers"),
        (lambda: initializers.RandomNormal(stddev=-1), "stddev must be a finite number >= 0"),
        (lambda: initializers.RandomUniform(1, 0)((2,)), "maxval must be >= minval"),
        (lambda: initializers.Identity()((2,)), r"two sizes; got shape=\(2,\)"),
        (lambda: initializers.Orthogonal()((2,)), r"at least two sizes; got shape=\(2,\)"),
        (lambda: initializers.get("typo"), "Unknown initializer 'typo'"),
        (lambda: initializers.get({"class_name": "Zeros", "config": 3}), "a dict at 'config'"),
    ],
)
def test_what_is_wrong_is_refused_in_words(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_value_set_later_is_looked_at_too():
    made = initializers.VarianceScaling()
    with pytest.raises(ValueError, match="mode"):
        made.mode = "fan"
    with pytest.raises(AttributeError, match="Did you mean 'scale'"):
        made.scales = 2.0
