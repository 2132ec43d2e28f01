"""``attnlens transcribe``: transcripts of a language from a handful of examples, and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    revision: Annotated[str | None, typer.Option(help="Hub revision.")] = None,
    shots: Annotated[
        str,
        typer.Option(metavar="N[,N...]", help="Examples shown with each recording; of several, what is best on dev."),
    ] = "8",
    acoustic: Annotated[
        str | None,
        typer.Option(
            help="A CTC model or Whisper: choose among its hypotheses instead of writing freely; "
            "`organism` is what is shipped for the corpus."
        ),
    ] = None,
    acoustic_language: Annotated[
        str | None, typer.Option(help="The adapter of an MMS model (que), or what Whisper is to write (en).")
    ] = None,
    n: Annotated[int, typer.Option(min=1, help="Hypotheses of the acoustic model.")] = 10,
    rule: Annotated[
        str | None,
        typer.Option(
            help="How a hypothesis is chosen; attnlens ls rules. Without one: interpolated, where "
            "weights tuned on parts of dev help on the others, else sum-logprob."
        ),
    ] = None,
    dev: Annotated[int, typer.Option(min=0, help="At most so many utterances of dev are used to tune; 0: none.")] = 50,
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
    chosen, which is the safer of the two. Where EXAMPLES have a dev split, weights of the two models (and the number of
    examples, if several are named) are tuned on it; what was tuned on what is said at the end.

    Examples: `attnlens transcribe corpus/ new/*.wav --model Qwen/Qwen2-Audio-7B-Instruct --shots 8`,
    `attnlens transcribe corpus/ new.wav --acoustic my-mms-folder --shots 2,4,8 --out new.jsonl`
    """
    import json

    from attnlens.asr.choices import Wanted
    from attnlens.asr.load_acoustic import require_short
    from attnlens.asr.rerank_spec import AcousticPart
    from attnlens.asr.transcription import Transcriber
    from attnlens.cli.output import steps
    from attnlens.data.read import read_corpus
    from attnlens.errors import BadInput
    from attnlens.models.load import load
    from attnlens.run.selection import SHIPPED, acoustic_name, load_acoustic_for

    numbers = [part.strip() for part in shots.split(",")]
    if not all(part.isdigit() for part in numbers):
        raise BadInput("--shots takes numbers, separated by commas", given=shots, fix="for instance --shots 8")
    wanted = Wanted(shots=tuple(map(int, numbers)), n=n, rule=rule, retriever=retriever, guard=guard, dev=dev)
    if file is not None and file.exists():
        raise BadInput("the file is already there", given=file, fix="choose another name for --out")
    corpus = read_corpus(examples, language=language)
    wanted.check(corpus, acoustic=acoustic)
    asked = _recordings(recordings or [], corpus)
    heard_by = AcousticPart(model=acoustic or SHIPPED, language=acoustic_language)
    if acoustic is not None:
        require_short(acoustic_name(acoustic, corpus), [*asked, *corpus.dev[:dev]])
    with steps() as tell:
        hears = None if acoustic is None else load_acoustic_for(heard_by, corpus)
        tell(f"loading {model}")
        lens = load(model, revision=revision, device_map=device)
        made = Transcriber(corpus, lens, wanted=wanted, acoustic=hears, asked=asked, tell=tell)
        lines = made.transcribe(asked)
        rows = []
        # The first transcript comes after all recordings were heard.
        first = next(lines, None)
    with _lines(file) as write:
        for row in () if first is None else itertools.chain([first], lines):
            rows.append(row)
            # Line by line: what was transcribed before something failed is not lost.
            write(json.dumps(row, ensure_ascii=False))
            if not out.json:
                out.console().print(f"{row['id']}\t{row['text']}", markup=False, soft_wrap=True)
    # Of other models it is not known here what they were trained on.
    account = made.account(acoustic_trained_on="target" if acoustic == SHIPPED else "not-declared")
    for said in (*made.remarks, str(made.choices)):
        out.remark(said)
    out.remark(f"What was seen of the language: {account.sentence}")
    told = {
        "transcripts": rows,
        "choices": made.choices.to_dict(),
        "remarks": made.remarks,
        "exposure": account.to_dict(),
    }
    out.emit(told, lambda _console: None)


@contextmanager
def _lines(file: Path | None) -> Iterator[Callable[[str], None]]:
    """Give what writes one line into a new file, or nowhere."""
    if file is None:
        yield lambda _line: None
        return
    with file.open("x", encoding="utf-8") as opened:

        def write(line: str) -> None:
            opened.write(line + "\n")
            opened.flush()

        yield write


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
