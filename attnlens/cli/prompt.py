"""``attnlens prompt show``: what exactly would the model read, and whose token is which?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnlens.cli.output import out
from attnlens.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from rich.console import Console

    from attnlens.context.encode import Encoded
    from attnlens.context.prompt import Prompt
    from attnlens.data.corpus import Corpus
    from attnlens.data.utterance import Utterance

__all__ = ["app", "show"]

app = typer.Typer(help="Look at prompts before any weights are loaded.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Keep `prompt` a group although it has one command."""


@app.command("show")
def show(
    corpus: Annotated[Path, typer.Argument(help="A manifest, a Kaldi folder, or a folder of recordings.")],
    *,
    model: Annotated[str, typer.Option(help="tiny:<family>, a checkpoint folder or a hub name.")] = "tiny:qwen3-asr",
    revision: Annotated[str | None, typer.Option(help="Hub revision.")] = None,
    condition: Annotated[str, typer.Option(help="asr, t-icl, icl, micl or a-icl.")] = "micl",
    shots: Annotated[int, typer.Option(help="Number of demonstrations.")] = 2,
    target: Annotated[
        str | None, typer.Option(help="Id of the utterance to transcribe; default: the first one.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split the default target comes from, when the corpus has it.")] = "test",
    retriever: Annotated[str, typer.Option(help="See `attnlens ls retrievers`.")] = "random",
    hypothesis: Annotated[
        str | None, typer.Option(help="What an acoustic model heard in the target: the query of text retrievers.")
    ] = None,
    order: Annotated[str, typer.Option(help="nearest-first, nearest-last, random or as-given.")] = "nearest-first",
    template: Annotated[str, typer.Option(help="See `attnlens ls templates`.")] = "default",
    control: Annotated[str | None, typer.Option(help="See `attnlens ls controls`.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    output: Annotated[str | None, typer.Option(help="Append this text as the answer.")] = None,
    language: Annotated[
        str | None, typer.Option(help="Which language, when the corpus has several or names none.")
    ] = None,
) -> None:
    """Show one prompt as a table of spans: position, tokens, seconds, first and last token.

    Example: `attnlens prompt show corpus/ --model tiny:qwen2-audio --condition micl --shots 4 --retriever length`
    """
    from attnlens.context.encode import encode
    from attnlens.data.read import read_corpus
    from attnlens.models.front import load_front_end
    from attnlens.run.corpora import CORPORA

    registered = str(corpus) in CORPORA and not corpus.exists()
    read = CORPORA[str(corpus)]() if registered else read_corpus(corpus, language=language)
    front = load_front_end(model, revision=revision)
    prompt = _prompt(
        read,
        _target(read, target, split),
        condition=condition,
        shots=shots,
        retriever=retriever,
        hypothesis=hypothesis,
        order=order,
        template=template,
        control=control,
        seed=seed,
    )
    encoded = encode(prompt, front, output=output)
    tokens = front.strings(encoded.ids)
    total, limit = len(encoded.ids), front.context_length
    data: dict[str, Any] = {
        "model": model,
        "prompt": prompt.to_dict(),
        "digest": prompt.digest,
        "positions": total,
        "context_length": limit,
        "spans": encoded.spans.rows(tokens),
    }
    out.emit(data, lambda console: _render(console, encoded, tokens, model, limit))


def _target(corpus: Corpus, wanted: str | None, split: str) -> Utterance:
    from attnlens.data.corpus import SPLITS

    if wanted is not None:
        return corpus[wanted]
    if split not in SPLITS:
        raise UnknownName.among("split", split, SPLITS)
    for candidates in (corpus.splits.get(split, ()), corpus.dev, corpus.pool):
        if candidates:
            return candidates[0]
    raise BadInput(f"the corpus {corpus.name!r} is empty", fix="add utterances to it")


def _prompt(
    corpus: Corpus,
    target: Utterance,
    *,
    condition: Any,
    shots: int,
    retriever: str,
    hypothesis: str | None,
    order: Any,
    template: str,
    control: str | None,
    seed: int,
) -> Prompt:
    from attnlens.context.build import build_prompt
    from attnlens.context.controls import apply_control
    from attnlens.context.retrieval import Query, retrieve

    demonstrations: list[Utterance] = []
    if shots:
        query = Query(target, hypothesis=hypothesis)
        (ranking,) = retrieve([query], corpus.pool, k=shots, retriever=retriever, seed=seed)
        demonstrations = [corpus[one] for one in ranking.ids]
    prompt = build_prompt(
        target,
        demonstrations,
        condition=condition,
        shots=shots,
        template=template,
        order=order,
        seed=seed,
    )
    return apply_control(prompt, control, seed=seed, corpus=corpus) if control else prompt


def _render(console: Console, encoded: Encoded, tokens: list[str], model: str, limit: int | None) -> None:
    from rich.table import Table
    from rich.text import Text

    prompt = encoded.prompt
    asked = f"{prompt.condition}, {prompt.shots} shots, target {prompt.target.id}, template {prompt.template}"
    console.print(Text(asked))
    console.print(
        Text(f"model {model}: {len(encoded.ids)} of {limit or 'unlimited'} positions; digest {prompt.digest}")
    )
    if prompt.applied:
        console.print(Text(f"controls: {', '.join(prompt.applied)}"))
    table = Table(box=None, pad_edge=False)
    for heading, side in [("span", "left"), ("positions", "right"), ("tokens", "right"), ("seconds", "right")]:
        table.add_column(heading, justify=side, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("first token", no_wrap=True)
    table.add_column("last token", no_wrap=True)
    for row in encoded.spans.rows(tokens):
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.2f}"
        place = f"{row['start']}-{row['stop'] - 1}"
        # repr keeps line breaks and spaces visible, and Text keeps brackets from being read as markup.
        table.add_row(
            Text(row["span"]), place, str(row["tokens"]), seconds, Text(repr(row["first"])), Text(repr(row["last"]))
        )
    console.print(table)
