import pytest

from agent.core.staying import stays


@pytest.mark.parametrize(
    ("path", "patterns", "stay"),
    [
        ("optimizer.pt", (), False),
        ("optimizer.pt", ("optimizer.pt",), True),
        ("deep/optimizer.pt", ("optimizer.pt",), False),
        ("deep/optimizer.pt", ("*/optimizer.pt",), True),
        ("cache/a/b.arrow", ("cache/*",), True),
        ("cached.bin", ("cache/*",), False),
        ("Cache/a", ("cache/*",), False),
        ("shard-3.bin", ("shard-[0-4].bin", "other"), True),
    ],
)
def test_a_star_stands_for_slashes_too(path: str, patterns: tuple[str, ...], stay: bool) -> None:
    assert stays(path, patterns) is stay
