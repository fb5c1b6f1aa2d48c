"""policy.toml: the shipped one is complete and consistent; a wrong one is refused before anything is judged."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import kyc_guard
from kyc_guard.config import Policy, Settings, Thresholds
from kyc_guard.detectors.liveness import CODES
from kyc_guard.errors import ConfigError
from kyc_guard.types import Modality, Outcome

PACKAGE = Path(kyc_guard.__file__).parent
SHIPPED = PACKAGE / "policy.toml"
MESSAGES = tomllib.loads((PACKAGE / "content" / "messages.toml").read_text(encoding="utf-8"))

GOOD = """
[checks.face_attack]
mandatory = true
reject_at = "reject"
on_abstain = "retry"
[reasons]
retry = ["no_face"]
[quality]
face_min_size_px = 48
"""


def first_arguments(function: str) -> Iterator[tuple[str, str]]:
    """(literal, file) of every call of ``function`` in the package whose first argument is a literal string."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name == function:
                    yield str(node.args[0].value), path.name


def codes_with_details() -> Iterator[tuple[str, str]]:
    """(code, file) of every (code, condition, f"detail") row of a detector: the other way in which reasons are written."""
    for path in sorted((PACKAGE / "detectors").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Tuple) and len(node.elts) == 3 and isinstance(node.elts[2], ast.JoinedStr):
                code = node.elts[0]
                if isinstance(code, ast.Constant):
                    yield str(code.value), path.name


def test_every_reason_code_written_in_the_package_is_weighed_by_the_policy() -> None:
    known = set(Policy.load(SHIPPED).reasons)
    # fusion.py's own reasons come with the outcome that caused them.
    written = [*((c, f) for c, f in first_arguments("Reason") if f != "fusion.py"), *codes_with_details()]
    assert not {(code, file) for code, file in [*written, *((c, "liveness.py") for c in CODES.values())] if code not in known}


def test_every_absent_modality_is_weighed_by_the_policy() -> None:
    assert {f"no_{m}" for m in Modality} <= set(Policy.load(SHIPPED).reasons)


def test_every_gate_the_package_asks_for_is_in_the_policy_and_none_is_left_over() -> None:
    assert {name for name, _ in first_arguments("gate")} == set(Policy.load(SHIPPED).quality)


def test_every_retry_reason_tells_the_applicant_what_to_mend() -> None:
    retry = {code for code, outcome in Policy.load(SHIPPED).reasons.items() if outcome is Outcome.RETRY}
    assert retry == set(MESSAGES["reasons"])


def test_every_outcome_has_a_sentence_for_the_applicant() -> None:
    assert set(MESSAGES["outcomes"]) == {str(o) for o in Outcome}


@pytest.mark.parametrize(
    "word", ["attack", "score", "liveness", "replay", "mask", "deepfake", "threshold", "detect", "fraud", "suspect", "moire"]
)
def test_no_sentence_for_the_applicant_names_what_was_suspected(word: str) -> None:
    sentences = [*MESSAGES["outcomes"].values(), *MESSAGES["reasons"].values()]
    assert not [s for s in sentences if word in s.lower()]


def test_a_good_policy_is_read(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(GOOD, encoding="utf-8")
    policy = Policy.load(path)
    assert policy.checks["face_attack"].on_abstain is Outcome.RETRY
    assert policy.reasons == {"no_face": Outcome.RETRY}
    assert policy.gate("face_min_size_px") == 48.0


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("reject_at", "reject_att", "reject_att"),
        ('on_abstain = "retry"', 'on_abstain = "accept"', "mandatory but on_abstain"),
        ('on_abstain = "retry"', 'on_abstain = "maybe"', "maybe"),
        ('on_abstain = "retry"', "", "on_abstain"),
        ("mandatory = true", "mandatory = false", "no check is mandatory"),
        ('retry = ["no_face"]', 'retry = ["no_face"]\nreview = ["no_face"]', "listed twice"),
        ('retry = ["no_face"]', 'sometimes = ["no_face"]', "sometimes"),
        ("[quality]", "[qualities]", "qualities"),
        ("= 48", "= nan", "not a finite number"),
        ("= 48", "= ", "not valid TOML"),
    ],
)
def test_a_wrong_policy_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "policy.toml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=says):
        Policy.load(path)


RULE = """
[challenge]
answered_by = ["face_attack"]
required_from = { face_attack = "mild", fusion = "even_odds" }
required_without = ["face_attack"]
"""


def test_a_rule_for_challenges_is_read_and_the_shipped_one_asks_nobody(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(GOOD + RULE, encoding="utf-8")
    rule = Policy.load(path).challenge
    assert (rule.answered_by, rule.required_without) == (("face_attack",), ("face_attack",))
    assert rule.required_from == {"face_attack": "mild", "fusion": "even_odds"}
    shipped = Policy.load(SHIPPED)
    assert shipped.challenge.answered_by == ("challenge", "phrase")
    assert not shipped.challenge.required_from
    assert not shipped.challenge.required_without
    assert shipped.reasons["challenge_required"] is Outcome.RETRY


def test_the_rule_that_the_shipped_policy_suggests_fits_the_shipped_thresholds(tmp_path: Path) -> None:
    path, text = tmp_path / "policy.toml", SHIPPED.read_text(encoding="utf-8")
    (suggested,) = re.findall(r"\{ face_attack = \"\w+\" \}", text)
    path.write_text(text.replace("required_from = {}", f"required_from = {suggested}"), encoding="utf-8")
    policy, thresholds = Policy.load(path), Thresholds.load(Settings().thresholds_path)
    review = policy.checks["face_attack"].review_at
    assert review is not None
    assert thresholds.point("face_attack", policy.challenge.required_from["face_attack"]) < thresholds.point("face_attack", review)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('answered_by = ["face_attack"]', "", "no check in answered_by"),
        ('answered_by = ["face_attack"]', 'answered_by = "face_attack"', "no list of names"),
        ('answered_by = ["face_attack"]', 'answered_by = ["fusion"]', "fusion, which is no check"),
        ('required_without = ["face_attack"]', 'required_without = ["injektion"]', "injektion"),
        ('required_without = ["face_attack"]', 'required_whithout = ["face_attack"]', "required_whithout"),
        ('{ face_attack = "mild",', '{ face_atack = "mild",', "face_atack"),
        ('{ face_attack = "mild",', "{ face_attack = 0.3,", "no list of names"),
        ('{ face_attack = "mild", fusion = "even_odds" }', '["mild"]', "policy schema"),
        ('retry = ["no_face"]', 'retry = ["no_face"]\naccept = ["challenge_required"]', "listed under accept"),
    ],
)
def test_a_wrong_rule_for_challenges_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "policy.toml"
    assert old in GOOD + RULE
    path.write_text((GOOD + RULE).replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=says):
        Policy.load(path)


def test_a_missing_gate_is_refused() -> None:
    with pytest.raises(ConfigError, match="lacks no_such_gate"):
        Policy.load(SHIPPED).gate("no_such_gate")
