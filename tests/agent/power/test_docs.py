"""docs/power.md says what is true: every verb, every code, and examples that are understood."""

import json
import re
from pathlib import Path

from agent.power.verbs import _FIELDS, MOST_REQUEST_BYTES, parse

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/power.md").read_text()


def test_every_verb_and_every_code_is_on_the_page() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "agent/power").glob("*.py"))
    codes = set(re.findall(r'Refusal\(\s*"(\w+)"', sources)) - {"usage", "bad_socket"}
    assert len(codes) > 15
    assert {code for code in codes if f"`{code}`" not in PAGE} == set()
    assert {verb for verb in _FIELDS if f"`{verb}`" not in PAGE} == set()
    assert f"{MOST_REQUEST_BYTES} bytes" in PAGE


def test_the_examples_are_understood() -> None:
    examples = [json.loads(text) for text in re.findall(r"```json\n(.*?)\n```", PAGE, re.DOTALL)]
    request, done, refused = examples
    assert parse(json.dumps(request).encode()).verb == "set_gpu_max_hz"
    assert (done["ok"], refused["ok"]) == (True, False)
