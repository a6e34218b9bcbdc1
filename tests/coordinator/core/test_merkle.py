"""Trees of RFC 6962: its published test vectors, and what must hold of every tree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.merkle import EMPTY_ROOT, Frontier, audit_path, leaf_hash, root, root_from_path

# The inputs and roots of the reference implementation of Certificate Transparency.
INPUTS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


@pytest.mark.parametrize("size", range(1, 9))
def test_published_roots(size: int) -> None:
    assert root([leaf_hash(one) for one in INPUTS[:size]]).hex() == ROOTS[size - 1]


def test_no_leaves() -> None:
    assert root([]) == Frontier().root() == EMPTY_ROOT
    with pytest.raises(IndexError):
        audit_path([], 0)


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=70), st.data())
def test_a_path_leads_from_its_leaf_and_place_to_the_root_and_from_no_other(
    contents: list[bytes], data: st.DataObject
) -> None:
    leaves = [leaf_hash(one) for one in contents]
    grown = Frontier()
    for leaf in leaves:
        grown = grown.add(leaf)
    whole = root(leaves)
    assert (grown.root(), grown.size) == (whole, len(leaves))
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = audit_path(leaves, index)
    assert root_from_path(leaves[index], index, len(leaves), path) == whole
    assert root_from_path(leaf_hash(b"another"), index, len(leaves), path) != whole
    assert root_from_path(leaves[index], index, len(leaves), (*path, whole)) is None
    if path:
        assert root_from_path(leaves[index], index, len(leaves), path[:-1]) != whole
    for outside in (-1, len(leaves)):
        assert root_from_path(leaves[index], outside, len(leaves), path) is None
