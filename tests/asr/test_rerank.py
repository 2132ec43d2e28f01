"""From corpora to the table with tiny models: every row is there, dev alone is tuned on, files read back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from attnlens.asr.candidates import score_candidates
from attnlens.asr.instruction import select_by_instruction
from attnlens.asr.nbest import Hypothesis, NBest, read_nbest
from attnlens.asr.prompted import score_lists, write_transcript
from attnlens.asr.rerank import rerank_language
from attnlens.asr.rerank_files import ledger_of, new_folder, write_results
from attnlens.asr.rerank_spec import AcousticPart, RerankSpec, read_rerank_spec
from attnlens.asr.selection import select
from attnlens.asr.table import ACOUSTIC
from attnlens.asr.tabulate import selection_tables
from attnlens.asr.text_lm import nearest_texts
from attnlens.asr.tuning import Interpolated
from attnlens.context.build import build_prompt
from attnlens.data.corpus import Corpus
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput, UnknownName
from attnlens.models.load import load
from attnlens.testing import corpus
from tests.asr.test_causal_lm import model as text_model

Checkpoints = Callable[[str], Path]
QUICK: Any = {"resamples": 99, "draws": 99}


class Hard:
    """An acoustic model that hears the right text second, a wrong one first, and nothing of one utterance."""

    name = fingerprint = "hard"

    def nbest(self, utterances: Sequence[Utterance], *, n: int = 10, tick: Any = None, **_: Any) -> list[NBest]:
        made = []
        for number, one in enumerate(utterances, start=1):
            texts = dict.fromkeys([one.text[1:], one.text, one.text + " ka", "mi"])
            hypotheses = tuple(Hypothesis(text, -1.0 - place) for place, text in enumerate(texts))
            made.append(NBest(one.id, () if one.id == "test-3" else hypotheses[:n]))
            tick(number)
        return made


def spec(**changes: Any) -> RerankSpec:
    selector = {"model": "tiny:qwen3-asr", "shots": 2, "controls": ["mismatched-pairs"]}
    return RerankSpec(**{"corpora": ["synthetic"], "selector": selector, "ngram": {"order": 3}, **changes})


def test_the_whole_way(tmp_path: Path) -> None:
    described, made = spec(), corpus(pool=6, dev=2, test=5)
    told: list[str] = []
    found = rerank_language(
        described, made, Hard(), load("tiny:qwen3-asr"), tell=lambda what, _done, _of: told.append(what)
    )
    assert {"listening to test", "scoring: micl", "scoring: mismatched-pairs"} <= set(told)
    assert found.weights["micl"].tuned_on == {"dev-0", "dev-1"}
    assert set(found.candidates) == {"n-gram", "micl", "mismatched-pairs"}
    assert found.logs[0].speed_up is not None
    assert any("no CTC model" in remark for remark in found.remarks)
    tables = selection_tables([found.test], **QUICK)
    names = [row.system for row in tables[0].rows]
    assert names == [
        ACOUSTIC, "random pick", "LM only",
        *(f"micl {rule}" for rule in described.rules),
        "n-gram interpolated", "token bonus alone",
        "control: mismatched-pairs, sum-logprob", "control: mismatched-pairs, interpolated",
        "oracle", "anti-oracle",
    ]  # fmt: skip
    # All but the one utterance that nothing was heard of.
    assert tables[0]["oracle"].words.errors.sum() == len(made.test[3].text.split())
    account = ledger_of(described, [found])
    assert [row.component for row in account.rows] == [
        "acoustic model", "text retriever", "speech LLM", "n-gram model",
        "weights of n-gram", "weights of micl", "weights of token bonus alone",
    ]  # fmt: skip
    result = write_results(new_folder(tmp_path / "run"), described, [found], tables, account)
    folder = tmp_path / "run" / "synthetic"
    assert read_nbest(folder / "nbest.jsonl") == list(found.nbest)
    rows = [json.loads(line) for line in (folder / "transcripts.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in rows] == [one.id for one in made.test]
    assert rows[3][ACOUSTIC] == ""
    plain = (folder / "transcripts" / "oracle.txt").read_text(encoding="utf-8").splitlines()
    assert plain == [row["oracle"] for row in rows]
    scores = [json.loads(line) for line in (folder / "scores.jsonl").read_text(encoding="utf-8").splitlines()]
    assert scores[0]["hypotheses"][1]["micl"] == pytest.approx(found.candidates["micl"][0].scores[1].total)
    assert json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))["hash"] == result["hash"]
    assert account.sentence in (tmp_path / "run" / "table.md").read_text(encoding="utf-8")
    assert read_rerank_spec(tmp_path / "run" / "spec.yaml") == described
    with pytest.raises(BadInput, match="not empty"):
        new_folder(tmp_path / "run")


def test_writing_and_answering(monkeypatch: pytest.MonkeyPatch) -> None:
    # Random weights write until they are stopped.
    short = {"guard": "loops", "max_new_tokens": 6}
    monkeypatch.setattr(write_transcript, "__kwdefaults__", short)
    monkeypatch.setattr(select_by_instruction, "__kwdefaults__", short)
    selector = {"model": "tiny:qwen3-asr", "shots": 0, "prompted": "paper", "instruction": "on", "retriever": "random"}
    found = rerank_language(spec(selector=selector, limit=1, ngram=None), corpus(), Hard(), load("tiny:qwen3-asr"))
    assert set(found.test.others) == {"prompted", "instruction", "token bonus alone"}
    assert found.test.tags["prompted"] == "guard paper"
    assert found.test.tags["instruction"].endswith("1 answers name a hypothesis")
    assert found.copies is not None
    assert any("no controls" in remark for remark in found.remarks)


def test_text_models_stand_beside_the_speech_llm(tmp_path: Path) -> None:
    tiny = text_model()
    tiny.model.save_pretrained(tmp_path / "lm")
    tiny.tokenizer.save_pretrained(tmp_path / "lm")
    parts: list[dict[str, Any]] = [
        {"model": {"synthetic": str(tmp_path / "lm")}, "name": "reader", "shots": 2},
        {"model": str(tmp_path / "lm"), "name": "trained", "shots": 0, "trained_on": "target"},
    ]
    described, made = spec(selector=None, ngram={"order": 2}, text_lms=parts), corpus(pool=4, dev=2, test=3)
    found = rerank_language(described, made, Hard(), None)
    assert {"reader interpolated", "trained interpolated"} <= set(found.test.others)
    shown = nearest_texts(made, made.test, found.nbest, shots=2)
    naive = score_candidates(found.nbest, tiny, demonstrations=shown)
    for one, other in zip(found.candidates["reader"], naive, strict=True):
        np.testing.assert_allclose(one.lm_totals, other.lm_totals, atol=1e-3)
    expected = [one.text for one in select(found.candidates["reader"], Interpolated(found.weights["reader"]))]
    assert found.test.others["reader interpolated"] == expected
    said = ledger_of(described, [found]).sentence
    assert "reader: text of pool in its context, audio of test in its query, no target-language" in said
    assert "trained: text of pool in its weights, audio of test in its query;" in said
    made = Corpus(made.name, made.language, {"pool": made.pool, "test": made.test})
    assert "reader sum-logprob" in rerank_language(described, made, Hard(), None).test.others
    with pytest.raises(BadInput, match="there is no text model for 'synthetic'"):
        rerank_language(spec(selector=None, text_lms=[{"model": {"other": "x"}}]), made, Hard(), None)
    with pytest.raises(BadInput, match="one name"):
        spec(text_lms=[parts[0], parts[0]])
    with pytest.raises(UnknownName, match="retriever"):
        spec(text_lms=[{"model": "x", "retriever": "nearest"}])


def test_without_dev_nothing_is_tuned() -> None:
    made = corpus(pool=8, test=4)
    made = Corpus(made.name, made.language, {"pool": made.pool, "test": made.test})
    found = rerank_language(spec(selector=None), made, Hard(), None)
    assert found.weights == {}
    assert not any("interpolated" in name for name in found.test.rules)
    assert any("no dev split" in remark for remark in found.remarks)
    assert len(found.test.lists) == 4


def test_joint_decoding_with_a_ctc_model(checkpoints: Checkpoints) -> None:
    from attnlens.asr.load_acoustic import load_acoustic

    described = spec(selector=None, limit=2, ngram={"order": 2, "joint_weights": [0.5], "joint_bonuses": [0.0]})
    found = rerank_language(described, corpus(), load_acoustic(checkpoints("wav2vec2")), None)
    assert len(found.test.others["joint decoding"]) == 2
    assert found.weights["joint decoding"].lm == 0.5


def test_frames_are_heard_once_for_any_number_of_runs(
    checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnlens.asr.ctc import CtcNet
    from attnlens.run.selection import load_acoustic_for

    made = corpus(test=2)
    part = AcousticPart(model=str(checkpoints("wav2vec2")), cache=str(tmp_path / "frames"))
    first = load_acoustic_for(part, made).nbest(made.test)

    def deaf(*_: Any, **__: Any) -> Any:
        raise AssertionError("listened again")

    monkeypatch.setattr(CtcNet, "logits", deaf)
    assert load_acoustic_for(part, made).nbest(made.test) == first


def test_a_prompt_that_is_too_long_is_refused_before_the_first_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    made, lens, done = corpus(pool=6, test=2), load("tiny:qwen3-asr"), list[int]()
    prompts = [
        build_prompt(one, made.pool, condition="micl", shots=shots)
        for one, shots in zip(made.test, (0, 4), strict=True)
    ]
    lists = [NBest(one.id, (Hypothesis("ka to", -1.0),)) for one in made.test]
    longest = len(lens.encode(prompts[1]).ids)
    monkeypatch.setattr(type(lens.front), "context_length", longest)
    with pytest.raises(BadInput, match=f"the prompt for '{made.test[1].id}' does not fit"):
        score_lists(lens, prompts, lists, tick=done.append)
    assert done == []
    monkeypatch.setattr(type(lens.front), "context_length", longest + len("ka to") + 1)
    score_lists(lens, prompts, lists, tick=done.append)
    assert done == [1, 2]


def test_refusals(tmp_path: Path) -> None:
    made = corpus()
    with pytest.raises(BadInput, match="needs its model"):
        rerank_language(spec(), made, Hard(), None)
    with pytest.raises(BadInput, match="nothing to transcribe"):
        rerank_language(spec(selector=None), Corpus("c", "xx", {"pool": made.pool}), Hard(), None)
    with pytest.raises(BadInput, match="nothing scores"):
        spec(selector=None, ngram=None)
    with pytest.raises(UnknownName, match="'orders'"):
        spec(ngram={"orders": 3})
    with pytest.raises(UnknownName, match="guard"):
        spec(selector={"prompted": "loop"})
    with pytest.raises(BadInput, match=r"acoustic\.n"):
        spec(acoustic={"n": 0})
    with pytest.raises(BadInput, match="corpora"):
        RerankSpec()
    path = tmp_path / "s.yaml"
    path.write_text("- a", encoding="utf-8")
    with pytest.raises(BadInput, match="no mapping"):
        read_rerank_spec(path)
    with pytest.raises(BadInput, match="no spec file"):
        read_rerank_spec(tmp_path / "none.yaml")


def test_commands(
    checkpoints: Checkpoints, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnlens.cli.main import run

    monkeypatch.setattr(write_transcript, "__kwdefaults__", {"guard": "loops", "max_new_tokens": 6})

    acoustic = str(checkpoints("wav2vec2"))
    fields = spec(acoustic={"model": {"synthetic": acoustic}, "n": 3}, rules=["sum-logprob"]).model_dump(mode="json")
    fields["ngram"], fields["selector"]["prompted"] = None, None
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(fields), encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        run(["rerank", str(tmp_path / "s.yaml"), "--out", str(tmp_path / "run"), "--limit", "2", "--quiet"])
    assert ended.value.code in (0, None)
    assert "\nmicl sum-logprob " in capsys.readouterr().out
    manifest = _written(tmp_path)
    base = ["transcribe", str(manifest), str(tmp_path / "audio" / "test-0.wav"), "--model", "tiny:qwen3-asr"]
    for more in (["--shots", "1"], ["--shots", "2", "--acoustic", acoustic, "--out", str(tmp_path / "t.jsonl")]):
        with pytest.raises(SystemExit) as ended:
            run([*base, *more, "--json"])
        assert ended.value.code in (0, None)
        [row] = json.loads(capsys.readouterr().out)["transcripts"]
        assert row["id"].endswith("test-0.wav")
    assert json.loads((tmp_path / "t.jsonl").read_text(encoding="utf-8"))["hypotheses"] == 10
    refusals = [["--out", str(tmp_path / "t.jsonl")], ["--rule", "best"], ["--shots", "a"], ["--shots", "1,2"]]
    for refused in ([str(tmp_path / "no.wav")], *refusals):
        with pytest.raises(SystemExit) as ended:
            run(["transcribe", str(manifest), *refused, "--model", "tiny:qwen3-asr"])
        assert ended.value.code == 2


def _written(folder: Path) -> Path:
    import soundfile

    made, rows = corpus(pool=3, dev=0, test=1), []
    (folder / "audio").mkdir()
    for split, part in made.splits.items():
        for one in part:
            soundfile.write(folder / "audio" / f"{one.id}.wav", one.audio.load(), 16_000)
            row = {"id": one.id, "audio": f"audio/{one.id}.wav", "text": one.text, "language": "xx", "split": split}
            rows.append(row)
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_equal_specs_have_equal_hashes() -> None:
    assert spec().hash == spec().hash != spec(seeds=[1]).hash
