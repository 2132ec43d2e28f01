"""``attnlens transcribe``: transcripts of a language from a handful of examples, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnlens.cli.output import out

if TYPE_CHECKING:
    from attnlens.data.corpus import Corpus
    from attnlens.data.utterance import Utterance

__all__ = ["transcribe"]


def transcribe(
    examples: Annotated[
        Path, typer.Argument(metavar="EXAMPLES", help="A manifest, Kaldi folder or folder: transcribed recordings.")
    ],
    recordings: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RECORDING]...", help="Audio files; without any, the test split of EXAMPLES."),
    ] = None,
    *,
    model: Annotated[str, typer.Option(help="The speech LLM: a registered name, a folder or a hub name.")] = "organism",
    shots: Annotated[int, typer.Option(min=0, help="Examples shown with each recording.")] = 8,
    acoustic: Annotated[
        str | None, typer.Option(help="A CTC model or Whisper: choose among its hypotheses instead of writing freely.")
    ] = None,
    n: Annotated[int, typer.Option(min=1, help="Hypotheses of the acoustic model.")] = 10,
    rule: Annotated[str, typer.Option(help="How a hypothesis is chosen; attnlens ls rules.")] = "sum-logprob",
    retriever: Annotated[
        str | None, typer.Option(help="How examples are found: text with --acoustic, else audio.")
    ] = None,
    guard: Annotated[str, typer.Option(help="What keeps free writing from running in circles.")] = "loops",
    language: Annotated[str | None, typer.Option(help="Only examples of this language.")] = None,
    file: Annotated[Path | None, typer.Option("--out", help="Also write JSON lines there; a new file.")] = None,
    device: Annotated[str | None, typer.Option(help="Where the speech LLM runs: cpu, cuda, auto.")] = None,
) -> None:
    """Transcribe recordings by showing a speech LLM some transcribed ones of the same language.

    Without --acoustic the model writes the transcript itself; with it, hypotheses of that model are scored and one is
    chosen, which is the safer of the two.

    Examples: `attnlens transcribe corpus/ new/*.wav --model Qwen/Qwen2-Audio-7B-Instruct --shots 8`,
    `attnlens transcribe corpus/ new.wav --acoustic my-mms-folder --out new.jsonl`
    """
    import json

    from attnlens.asr.selection import RULES
    from attnlens.context.retrieval import RETRIEVERS
    from attnlens.data.read import read_corpus
    from attnlens.errors import BadInput
    from attnlens.models.load import load

    RULES.require(rule)
    chosen = retriever or ("audio" if acoustic is None else "text")
    RETRIEVERS.require(chosen)
    if file is not None and file.exists():
        raise BadInput("the file is already there", given=file, fix="choose another name for --out")
    corpus = read_corpus(examples, language=language)
    asked = _recordings(recordings or [], corpus)
    lens = load(model, device_map=device)
    rows = []
    for row in _rows(
        asked, corpus, lens, acoustic=acoustic, n=n, rule=rule, retriever=chosen, shots=shots, guard=guard
    ):
        rows.append(row)
        if not out.json:
            out.console().print(f"{row['id']}\t{row['text']}", markup=False, soft_wrap=True)
    if file is not None:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        file.write_text(text, encoding="utf-8")
    out.emit({"transcripts": rows}, lambda _console: None)


def _recordings(paths: list[Path], corpus: Corpus) -> list[Utterance]:
    from attnlens.data.audio import Audio
    from attnlens.data.utterance import Utterance
    from attnlens.errors import BadInput, listing

    if not paths:
        if not corpus.test:
            raise BadInput(
                "there is nothing to transcribe",
                given=f"no recordings, and no test split in {corpus.name!r}",
                fix="pass audio files behind the examples",
            )
        return list(corpus.test)
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise BadInput("no such recording", given=listing(missing, at_most=6), fix="check the paths")
    asked = [Utterance(str(path), Audio(path), "", corpus.language) for path in paths]
    for one in asked:
        # Before a model is loaded: what cannot be read is told now.
        one.audio.load()
    return asked


def _rows(
    asked: list[Utterance],
    corpus: Corpus,
    lens: Any,
    *,
    acoustic: str | None,
    n: int,
    rule: str,
    retriever: str,
    shots: int,
    guard: str,
) -> Any:
    from attnlens.asr.load_acoustic import load_acoustic
    from attnlens.asr.prompted import score_lists, write_transcript
    from attnlens.asr.selection import choose, make_rule
    from attnlens.context.build import build_prompt
    from attnlens.context.retrieval.base import Query, retrieve
    from attnlens.models.clips import reusing_clips

    lists = None if acoustic is None else load_acoustic(acoustic).nbest(asked, n=n)
    heard = [None if lists is None or not len(lists[place]) else lists[place].best.text for place in range(len(asked))]
    queries = [Query(one, hypothesis=text) for one, text in zip(asked, heard, strict=True)]
    rankings = retrieve(queries, corpus.pool, k=shots, retriever=retriever)
    for place, (one, ranking) in enumerate(zip(asked, rankings, strict=True)):
        shown = [corpus[name] for name in ranking.ids]
        prompt = build_prompt(one, shown, condition="micl" if shown else "asr")
        row: dict[str, Any] = {"id": one.id, "demonstrations": list(ranking.ids)}
        if lists is None:
            with reusing_clips(lens):
                answer = write_transcript(lens, prompt, guard=guard)
            yield {**row, "text": " ".join(answer.text.split()), "ended": answer.ended}
        else:
            [candidates], _ = score_lists(lens, [prompt], [lists[place]])
            choice = choose(candidates, make_rule(rule))
            yield {**row, "text": choice.text, "acoustic_best": heard[place] or "", "hypotheses": len(candidates)}
