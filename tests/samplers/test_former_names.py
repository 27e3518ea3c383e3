"""A plug-in written for the former names of a sampler's members works, with a warning."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from dlm_bench import ConfigError, build_model, build_sampler
from dlm_bench.samplers.full import Full

LENGTH = 24


def former_sampler():
    """A class as version 0.1 had it: `plan` instead of `passes`, `needs` instead of `requires`."""

    @dataclass(frozen=True)
    class Former(Full):
        name: ClassVar[str] = "former"
        needs: ClassVar[str] = "full"

        @property
        def known(self):
            return True

        def plan(self, length, prompt_len=0):
            yield from super().plan(length, prompt_len)

    return Former


def test_a_class_with_former_names_warns_once_for_each(recwarn):
    former_sampler()
    assert {str(each.message) for each in recwarn} == {
        "Former.plan is passes now",
        "Former.needs is requires now",
        "Former.known is is_fixed now",
    }
    assert all(each.filename == __file__ for each in recwarn)


@pytest.mark.filterwarnings("ignore:Former:DeprecationWarning")
def test_a_class_with_former_names_decodes_as_before():
    former, now = former_sampler()(tokens_per_step=4), build_sampler("full", tokens_per_step=4)
    model = build_model("diffutran", "tiny", layers=1)
    assert former.schedule(LENGTH) == now.schedule(LENGTH)
    assert former.decode(model, LENGTH).equal(now.decode(model, LENGTH))
    assert former.requires == "full"
    assert former.is_fixed


@pytest.mark.parametrize(("former", "name"), [("needs", "requires"), ("known", "is_fixed")])
def test_a_member_is_read_by_its_former_name_with_a_warning(former, name):
    sampler = build_sampler("block-cache")
    with pytest.warns(DeprecationWarning, match=f"BlockCache.{former} is {name} now"):
        assert getattr(sampler, former) == getattr(sampler, name)


def test_the_former_method_lists_the_same_passes():
    sampler = build_sampler("fast-dllm")
    with pytest.warns(DeprecationWarning, match="plan is passes now"):
        assert list(sampler.plan(LENGTH, 8)) == list(sampler.passes(LENGTH, 8))


def test_the_former_option_is_taken_with_a_warning():
    with pytest.warns(DeprecationWarning, match="option unmask is order now"):
        sampler = build_sampler("full", unmask="random")
    assert sampler == build_sampler("full", order="random")
    with pytest.warns(DeprecationWarning, match=r"Full\.unmask is order now"):
        assert sampler.unmask == "random"
    with pytest.raises(ConfigError, match="no such option"):
        build_sampler("full", unmask="random", order="random")


def test_nothing_of_this_package_warns(recwarn):
    build_sampler("ar").schedule(LENGTH)
    assert not [each for each in recwarn if each.category is DeprecationWarning]
