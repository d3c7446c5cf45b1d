"""The split: no group is parted, what validates stays, and only whole new groups join."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from maskloop_learner.pool.split import Past, split_groups

SHARES = st.floats(0.05, 0.6)
GROUPS = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=3), st.integers(1, 9), min_size=2, max_size=25)


def images(sizes: dict[str, int]) -> dict[str, list[str]]:
    """Group -> so many images."""
    return {name: [f"{name}/{number}" for number in range(size)] for name, size in sizes.items()}


def after(split_of: dict[str, list[str]], validation: frozenset[str], past: Past) -> Past:
    """What is settled once a split was used."""
    sides = {True: set(past.validation), False: set(past.learnt)}
    for name, found in split_of.items():
        sides[name in validation] |= set(found)
    return Past(validation=frozenset(sides[True]), learnt=frozenset(sides[False]))


@settings(max_examples=100, deadline=None)
@given(first=GROUPS, second=GROUPS, share=SHARES, other=SHARES)
def test_validation_only_grows_by_whole_new_groups(
    first: dict[str, int], second: dict[str, int], share: float, other: float
) -> None:
    """Whatever arrives later, images of known groups included, and whatever the share becomes."""
    before = images(first)
    old = split_groups(before, Past(), share=share)
    past = after(before, old.validation, Past())
    later = images({name: max(first.get(name, 0), second.get(name, 0)) for name in {*first, *second}})
    new = split_groups(later, past, share=other)
    assert old.validation <= new.validation, "what validated once validates for ever"
    assert old.train <= new.train, "what was learnt from never validates"
    for split, groups in ((old, before), (new, later)):
        assert split.validation | split.train == set(groups)
        assert not split.validation & split.train, "no group is on both sides"
        assert split.validation
        assert split.train
    everything = after(later, new.validation, past)
    assert not everything.validation & everything.learnt


@given(sizes=GROUPS, share=SHARES, random=st.randoms())
def test_the_order_of_arrival_does_not_matter(sizes: dict[str, int], share: float, random: Random) -> None:
    groups = images(sizes)
    names = list(groups)
    random.shuffle(names)
    assert split_groups({name: groups[name] for name in names}, Past(), share=share) == split_groups(
        groups, Past(), share=share
    )


@given(count=st.integers(2, 200), share=SHARES)
def test_single_images_meet_the_share(count: int, share: float) -> None:
    groups = images({f"g{number}": 1 for number in range(count)})
    found = len(split_groups(groups, Past(), share=share).validation)
    assert abs(found - max(1.0, share * count)) <= 0.5


def test_a_large_group_does_not_join_for_a_small_share() -> None:
    """Of patients with 100, 2 and 3 images a fifth is met best by one of the small ones, or both."""
    split = split_groups(images({"a": 100, "b": 2, "c": 3}), Past(), share=0.1)
    assert split.train == {"a"}


def test_one_group_is_learnt_from() -> None:
    assert split_groups(images({"a": 7}), Past(), share=0.2).validation == frozenset()


def test_blind_groups_validate_first_and_whatever_the_share() -> None:
    groups = images({f"g{number}": 1 for number in range(20)})
    blind = ["g3", "g7", "g11"]
    assert split_groups(groups, Past(), share=0.05, blind=blind).validation == set(blind)
    more = split_groups(groups, Past(), share=0.25, blind=blind).validation
    assert set(blind) < more
    assert len(more) == 5
    everything = split_groups(groups, Past(), share=0.05, blind=groups)
    assert len(everything.train) == 1, "something must be learnt from"


def test_a_blind_group_that_was_learnt_from_stays_there() -> None:
    groups = images({"a": 2, "b": 2, "c": 2})
    past = Past(validation=frozenset({"b/0"}), learnt=frozenset({"a/0"}))
    assert split_groups(groups, past, share=0.2, blind=["a"]).validation == {"b"}


def test_validation_wins_where_groups_were_joined() -> None:
    """An image that validated must not be learnt from, so its new group follows it."""
    past = Past(validation=frozenset({"a/0"}), learnt=frozenset({"a/1", "b/0"}))
    assert split_groups(images({"a": 2, "b": 1}), past, share=0.2).validation == {"a"}


def test_a_gate_is_kept_when_all_was_learnt_from() -> None:
    """One group became two: the smaller one validates, though the champion knows it."""
    past = Past(learnt=frozenset({"a/0", "a/1", "b/0"}))
    assert split_groups(images({"a": 2, "b": 1}), past, share=0.2).validation == {"b"}
