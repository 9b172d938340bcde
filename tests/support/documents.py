"""Users' documents for property tests: any JSON that an item may hold."""

from __future__ import annotations

from hypothesis import strategies as st

AWKWARD_NAMES = ["", "$set", "a.b", ".", "..", "$", "%", "%2E", "%25", "$ref", "$id", "_id", "0", "__proto__", "é.ß"]
names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    AWKWARD_NAMES
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(names, inner, max_size=5), max_leaves=20
)
