"""Methods are found by file name, each with settings that state their meaning, range and default."""

import subprocess
import sys

import pytest

from countgen import methods
from countgen.methods.auto import AutoSettings
from countgen.methods.noise import NoiseSettings
from countgen.methods.settings import as_dict, describe, with_text

pytestmark = pytest.mark.core


def test_methods_are_listed_without_importing_torch():
    code = "import sys, countgen; print(countgen.methods.available(), 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == f"{methods.available()} False\n"


@pytest.mark.parametrize("name", methods.available())
def test_every_method_has_a_summary_and_settings_that_read_back_their_own_text(name):
    method = methods.load(name)
    assert method.summary.endswith(".")
    settings = method.settings_class()
    said = [f"{one.name}={one.default}" for one in describe(settings)]
    assert with_text(settings, said) == settings
    assert all(one.meaning and one.accepted for one in describe(settings))


def test_a_file_that_is_no_method_cannot_be_loaded():
    for name in ("registry", "../run", "search.py", ""):
        with pytest.raises(ValueError, match="unknown method"):
            methods.load(name)


def test_nested_settings_are_written_with_a_dot():
    settings = with_text(AutoSettings(), ["refinement.learning_rate=0.1", "refinement_cost=2", "search.batch_size=6"])
    assert (settings.refinement.learning_rate, settings.refinement_cost, settings.search.batch_size) == (0.1, 2, 6)
    assert as_dict(settings)["refinement.learning_rate"] == 0.1


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("learning_rate", "write NAME=VALUE"),
        ("learning_rat=1", "Did you mean learning_rate"),
        ("learning_rate=fast", "learning_rate must be above 0, got 'fast'"),
        ("learning_rate=nan", "above 0, got nan"),
        ("learning_rate=inf", "above 0, got inf"),
        ("num_optimization_steps=2.5", "num_optimization_steps must be a whole number, at least 1, got '2.5'"),
        ("optimizer=lion", "one of adam, sgd, got 'lion'"),
        ("views=1", "unknown setting 'views'"),
        ("=3", "unknown setting ''"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_what_is_accepted(assignment, message):
    with pytest.raises(ValueError, match=message):
        with_text(NoiseSettings(), [assignment])


def test_a_method_says_in_its_own_file_what_it_takes():
    loaded = [methods.load(name) for name in methods.available()]
    assert {one.name for one in loaded if one.calibrated} == {"auto", "edit", "search"}
    assert {one.name for one in loaded if one.starts_from_image} == {"edit"}
