"""Methods are found by file name, each with settings that state their meaning, range and default."""

import pytest

from countgen import methods
from countgen.methods.auto import AutoSettings
from countgen.methods.lmn import LMNSettings
from countgen.methods.settings import as_dict, describe, with_text

pytestmark = pytest.mark.core


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
        ("loss=l3", "one of d2d, l1, margin"),
        ("num_optimization_steps=0", "at least 1, got 0"),
        ("learning_rate=0", "learning_rate must be above 0"),
        ("prior_power=-1", "prior_power must be at least 0"),
        ("original_share=1", "original_share must be at least 0 and below 1"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_what_is_accepted(assignment, message):
    with pytest.raises(ValueError, match=message):
        with_text(LMNSettings(), [assignment])
