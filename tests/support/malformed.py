"""Tables with one of their values damaged, for property tests."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

HUNDRED = settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats()
scalars = st.one_of(st.booleans(), numbers, words)
wrong = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    st.dictionaries(words, scalars, max_size=2),
    st.lists(st.lists(scalars, max_size=2), max_size=2),
)


@st.composite
def damaged(draw, whole):
    """A table with one of its values gone, of another kind, or under another name."""
    table = dict(whole)
    name = draw(st.sampled_from(sorted(table)))
    how = draw(st.sampled_from(["drop", "replace", "replace", "rename", "add"]))
    if how in ("drop", "rename"):
        value = table.pop(name)
    if how == "rename":
        table[draw(words)] = value
    if how == "replace":
        table[name] = draw(wrong)
    if how == "add":
        table[draw(words)] = draw(wrong)
    return table
