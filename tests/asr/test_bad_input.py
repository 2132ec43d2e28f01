"""What no corpus should hold and every corpus does: each has one answer, through the functions and the commands."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from attnlens.asr.acoustic import CtcModel
from attnlens.asr.baselines import acoustic_best, oracle, random_pick, size_curve
from attnlens.asr.candidates import Candidates
from attnlens.asr.comparison import Systems, compare
from attnlens.asr.copying import copy_rate
from attnlens.asr.error_rate import count_errors
from attnlens.asr.language_model import TextScore
from attnlens.asr.load_acoustic import load_acoustic, longest_clip, require_short
from attnlens.asr.nbest import Hypothesis, NBest
from attnlens.asr.perplexity import perplexity
from attnlens.asr.prompted import score_lists, write_transcript
from attnlens.asr.segments import error_segments
from attnlens.asr.selection import RULES, choose, make_rule
from attnlens.asr.tabulate import ListTest, selection_tables
from attnlens.asr.tuning import Interpolated, Weights, tune
from attnlens.asr.unwritable import unwritable
from attnlens.asr.vocabulary import Vocabulary
from attnlens.cli.main import run
from attnlens.data.audio import Audio
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput
from attnlens.testing import corpus

Checkpoints = Callable[[str], Path]
Answer = Callable[[Utterance], list[Hypothesis]]
QUICK: Any = {"resamples": 99, "draws": 99}
IMPOSSIBLE = -math.inf


def listed(*pairs: tuple[str, float], lm: float = -1.0, name: str = "u") -> Candidates:
    nbest = NBest(name, tuple(Hypothesis(text, score) for text, score in pairs))
    return Candidates.of(nbest, [TextScore(np.array([lm]), 0.0)] * len(pairs))


LISTS = {
    "empty": listed(),
    "one": listed(("ka", -1.0)),
    "equal": listed(("ka", -1.0), ("to", -1.0), ("mi", -1.0)),
    "first impossible": listed(("ka", IMPOSSIBLE), ("to", -1.0)),
    "all impossible": listed(("ka", IMPOSSIBLE), ("to", IMPOSSIBLE)),
    "impossible text": listed(("ka", -1.0), ("to", -2.0), lm=IMPOSSIBLE),
    "empty hypothesis": listed(("", -1.0), ("ka", -2.0)),
}
TAKEN = {"empty": "", "one": "ka", "equal": "ka", "first impossible": "to", "all impossible": "ka"}


@pytest.mark.parametrize("rule", [*RULES])
@pytest.mark.parametrize("kind", LISTS)
def test_every_rule_takes_something_from_every_list(rule: str, kind: str) -> None:
    made = Interpolated(Weights(lm=0.5, bonus=0.1)) if rule == "interpolated" else make_rule(rule)
    found = choose(LISTS[kind], made)
    assert not np.isnan(found.scores).any()
    assert found.text == (LISTS[kind].texts[found.place] if found.place is not None else "")
    # The language model alone hears nothing: to it these are equals.
    if kind in TAKEN and not (rule == "lm-only" and kind == "first impossible"):
        assert found.text == TAKEN[kind]


def test_a_table_of_such_lists_has_no_nan() -> None:
    lists = [replace(one, utterance_id=kind) for kind, one in LISTS.items()]
    references = ["ka to", "", "to", "to", "", "ka", "ka"]
    weights = tune(lists, references)
    rules = {name: make_rule(name) for name in RULES if name != "interpolated"}
    rules["interpolated"] = Interpolated(weights, on_tuned="tagged")
    [table] = selection_tables([ListTest(language="xx", lists=lists, references=references, rules=rules)], **QUICK)
    json.dumps(table.to_dict(), allow_nan=False)
    assert table.empty_lists == 1
    assert acoustic_best(lists)[0] == random_pick(lists)[0] == oracle(lists, references)[0] == ""
    assert [counts.rate for counts in size_curve(lists, references, acoustic_best).values()]


def test_references_and_hypotheses_of_different_length_are_refused_everywhere() -> None:
    lists, short = [LISTS["one"]], list[str]()
    systems = Systems(language="xx", ids=("a",), references=("ka",), transcripts={"x": ["ka", "to"], "y": ["ka"]})
    table = ListTest(language="xx", lists=lists, references=["ka", "to"], rules={})
    from attnlens.context.build import build_prompt
    from attnlens.models.load import load
    from attnlens.testing import utterance

    prompt = build_prompt(utterance("t"), [], condition="asr")
    for call in (
        lambda: count_errors(["ka"], short),
        lambda: error_segments(["ka"], ["ka"], ["ka", "to"]),
        lambda: oracle(lists, ["ka", "to"]),
        lambda: tune(lists, ["ka", "to"]),
        lambda: size_curve(lists, ["ka", "to"], acoustic_best),
        lambda: selection_tables([table]),
        lambda: compare(systems, "x", baseline="y", **QUICK),
        lambda: copy_rate(["ka"], [], ["ka"]),
        lambda: perplexity([TextScore(np.array([-1.0]), 0.0)], ["ka", "to"]),
        lambda: score_lists(load("tiny:qwen3-asr"), [prompt], []),
    ):
        with pytest.raises(BadInput):
            call()


def test_empty_references() -> None:
    counts = count_errors(["", "ka"], ["mi", "ka"])
    assert (counts.rate, counts.errors.tolist()) == (1.0, [1, 0])
    with pytest.raises(BadInput, match="nothing was said"):
        _ = count_errors(["", ""], ["mi", ""]).rate
    with pytest.raises(BadInput):
        selection_tables([ListTest(language="xx", lists=[LISTS["one"]], references=[""], rules={})], **QUICK)


def test_characters_outside_the_vocabulary_are_counted_as_they_are_compared() -> None:
    vocabulary = Vocabulary.of(["KA TÓ"])
    assert unwritable(["ka to", "KÁ tó"], vocabulary, normalise=str.lower) == {}
    assert unwritable(["ka ñu漢"], vocabulary, normalise=str.lower) == {"n": 1, "\u0303": 1, "u": 1, "漢": 1}


# ---- through the commands ----


class Told:
    """An acoustic model that answers as it is told."""

    name = fingerprint = "told"

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def nbest(self, utterances: Sequence[Utterance], *, n: int = 10, tick: Any = None, **_: Any) -> list[NBest]:
        return [NBest(one.id, tuple(self.answer(one)[:n])) for one in utterances]


def _equal(one: Utterance) -> list[Hypothesis]:
    return [Hypothesis(text, -2.0) for text in ("ka", "to mi", one.id)]


ANSWERS: dict[str, Answer] = {
    "empty": lambda _: [],
    "some empty": lambda one: [] if one.id.endswith("0") or "test-0" in one.id else _equal(one),
    "one": lambda _: [Hypothesis("ka to", -1.0)],
    "equal": _equal,
    "impossible": lambda one: [Hypothesis(each.text, IMPOSSIBLE) for each in _equal(one)],
}


def written(folder: Path, texts: dict[str, str] | None = None, seconds: dict[str, float] | None = None) -> Path:
    made, rows = corpus(pool=3, dev=2, test=3), []
    (folder / "speech").mkdir(parents=True)
    for split, part in made.splits.items():
        for one in part:
            length = (seconds or {}).get(one.id)
            samples = one.audio.load() if length is None else np.full(int(length * 16_000), 0.01, np.float32)
            soundfile.write(folder / "speech" / f"{one.id}.wav", samples, 16_000)
            text = (texts or {}).get(one.id, one.text)
            rows.append({"id": one.id, "audio": f"{one.id}.wav", "text": text, "language": "xx", "split": split})
    path = folder / "speech" / "manifest.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return folder / "speech"


def rerank(folder: Path, speech: Path, *, acoustic: str, **changes: Any) -> tuple[int, dict[str, Any]]:
    """Run the command; return its exit status and its results, none where it refused."""
    fields: dict[str, Any] = {
        "corpora": [str(speech)],
        "acoustic": {"model": acoustic, "n": 3, "beam": 4},
        "selector": {"model": "tiny:qwen3-asr", "shots": 1, "controls": []},
        "ngram": {"order": 2, "joint_weights": [0.5], "joint_bonuses": [0.0]},
        **changes,
    }
    path = folder / "s.yaml"
    path.write_text(yaml.safe_dump(fields), encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        run(["--quiet", "rerank", str(path), "--out", str(folder / "out")])
    results = folder / "out" / "results.json"
    code = int(ended.value.code or 0)
    return code, json.loads(results.read_text(encoding="utf-8")) if results.is_file() else {}


def transcribed(speech: Path, *more: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, Any]]]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run(["--quiet", "transcribe", str(speech), "--model", "tiny:qwen3-asr", "--shots", "1", "--json", *more])
    code = int(ended.value.code or 0)
    return code, json.loads(capsys.readouterr().out)["transcripts"] if not code else []


@pytest.mark.parametrize("kind", ANSWERS)
def test_lists_of_every_kind_go_through_both_commands(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("attnlens.asr.load_acoustic.load_acoustic", lambda *_, **__: Told(ANSWERS[kind]))
    speech, told = written(tmp_path), str(tmp_path)
    code, results = rerank(tmp_path, speech, acoustic=told)
    if kind == "empty":
        # Nothing was heard on dev: there is nothing to tune on, and that is said instead of a table of nothing.
        assert code == 2
        code, rows = transcribed(speech, "--acoustic", told, capsys=capsys)
        assert (code, [(row["text"], row["rule"]) for row in rows]) == (0, [("", "sum-logprob")] * 3)
        return
    assert code == 0
    assert "NaN" not in json.dumps(results)
    [table] = results["tables"]
    assert table["empty_lists"] == (1 if kind == "some empty" else 0)
    first = {row["system"]: row["wer"] for row in table["rows"]}
    if kind == "one":
        assert len(set(first.values())) == 1
    code, rows = transcribed(speech, "--acoustic", told, capsys=capsys)
    assert code == 0
    assert [row["id"] for row in rows] == ["test-0", "test-1", "test-2"]
    assert [bool(row["hypotheses"]) for row in rows] == [kind != "some empty", True, True]


def test_references_that_are_empty(
    tmp_path: Path, checkpoints: Checkpoints, capsys: pytest.CaptureFixture[str]
) -> None:
    acoustic = str(checkpoints("wav2vec2"))
    # A manifest row without text is named by its line.
    missing = written(tmp_path / "a", {"test-1": ""})
    assert rerank(tmp_path / "a", missing, acoustic=acoustic)[0] == 2
    assert "manifest.jsonl:7 (test-1): the text is empty" in capsys.readouterr().err
    # What the normaliser empties is counted as empty ...
    code, results = rerank(tmp_path / "b", written(tmp_path / "b", {"test-1": "..."}), acoustic=acoustic, selector=None)
    assert code == 0
    assert results["tables"][0]["utterances"] == 3
    # ... and where nothing is left to compare with, nothing is computed.
    nothing = written(tmp_path / "c", {f"test-{n}": "?!" for n in range(3)})
    assert rerank(tmp_path / "c", nothing, acoustic=acoustic, selector=None) == (2, {})
    assert "has a word to compare with" in capsys.readouterr().err


def test_characters_outside_the_vocabulary_are_errors_and_are_told(
    tmp_path: Path, checkpoints: Checkpoints, capsys: pytest.CaptureFixture[str]
) -> None:
    acoustic = str(checkpoints("wav2vec2"))
    speech = written(tmp_path, {"test-0": "漢字 жук", "dev-0": "ẞß", "pool-0": "жук ka"})
    code, results = rerank(tmp_path, speech, acoustic=acoustic, selector=None)
    assert code == 0
    remarks = " ".join(results["languages"][0]["remarks"])
    assert "of speech's test (" in remarks
    assert "of speech's dev (" in remarks
    assert "漢" in remarks
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(
            [
                "transcribe",
                str(speech),
                "--model",
                "tiny:qwen3-asr",
                "--shots",
                "1",
                "--acoustic",
                acoustic,
                "--dev",
                "0",
            ]
        )
    told = capsys.readouterr().err
    assert "of the examples (" in told
    assert "nothing was tuned" in told


def test_audio_longer_than_a_window_is_read_whole(
    tmp_path: Path, checkpoints: Checkpoints, capsys: pytest.CaptureFixture[str]
) -> None:
    acoustic = str(checkpoints("wav2vec2"))
    speech = written(tmp_path, seconds={"test-1": 33.0})
    model = load_acoustic(acoustic)
    assert isinstance(model, CtcModel)
    [frames] = model.log_probabilities([Audio(speech / "test-1.wav")])
    assert len(frames) == pytest.approx(33.0 / model.seconds_per_frame, abs=2)
    assert (
        rerank(tmp_path, speech, acoustic=acoustic, selector=None, ngram={"order": 2, "joint_weights": [0.5]})[0] == 0
    )
    long = str(speech / "test-1.wav")
    code, rows = transcribed(speech, long, "--acoustic", acoustic, "--dev", "0", capsys=capsys)
    assert (code, len(rows)) == (0, 1)


def test_audio_longer_than_whisper_reads_is_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import WhisperConfig, WhisperFeatureExtractor

    folder = tmp_path / "whisper"
    WhisperConfig(d_model=8).save_pretrained(folder)
    WhisperFeatureExtractor(chunk_length=30).save_pretrained(folder)
    assert longest_clip(folder) == 30.0
    speech = written(tmp_path, seconds={"test-1": 31.0})
    with pytest.raises(BadInput, match=r"longer than the acoustic model reads"):
        require_short(folder, [Utterance("long", Audio(speech / "test-1.wav"), "", "xx")])
    monkeypatch.setattr("attnlens.models.load.load", lambda *_, **__: pytest.fail("a model was loaded"))
    assert rerank(tmp_path, speech, acoustic=str(folder)) == (2, {})
    assert "test-1 (31.0 s)" in capsys.readouterr().err
    assert transcribed(speech, "--acoustic", str(folder), capsys=capsys)[0] == 2


def test_a_recording_that_fails_costs_no_transcript_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_lens: Any, prompt: Any, **_: Any) -> Any:
        if prompt.target.id == "test-1":
            raise BadInput("it does not fit")
        return real(_lens, prompt, max_new_tokens=2)

    real = write_transcript
    monkeypatch.setattr("attnlens.asr.transcription.write_transcript", fails)
    out = tmp_path / "new.jsonl"
    code, _ = transcribed(written(tmp_path), "--out", str(out), capsys=capsys)
    assert code == 2
    assert [json.loads(line)["id"] for line in out.read_text(encoding="utf-8").splitlines()] == ["test-0"]
