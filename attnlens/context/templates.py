"""Templates by name: a template decides words and labels, a family's markup decides the tags around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from attnlens.context.pieces import Clip, Markup, Piece, Text
from attnlens.context.prompt import Prompt
from attnlens.context.spans import Label
from attnlens.errors import BadInput
from attnlens.registry import Registry

__all__ = ["TEMPLATES", "ChatTemplate", "Template", "Wording"]

TEMPLATES: Registry[Template] = Registry(
    "template",
    group="attnlens.templates",
    builtin={
        "default": (
            "attnlens.context.templates:DEFAULT",
            "the family's own chat turns, the same task in every condition",
        ),
        "paper": ("attnlens.context.paper_templates:PAPER", "the prompts as the paper prints them"),
        "paper-code": (
            "attnlens.context.paper_templates:PAPER_CODE",
            "the prompts as the paper's released code sends them, faults included",
        ),
        "question": (
            "attnlens.context.templates:QUESTION",
            "what each utterance's question asks of its recording: spoken question answering, translation",
        ),
        "bare": (
            "attnlens.context.templates:BARE",
            "recordings and texts alone, no instruction: for models without one",
        ),
    },
)

OTHER = Label("other")


class Template(Protocol):
    """What makes labelled pieces of a prompt; register another with ``TEMPLATES.register``."""

    def pieces(self, prompt: Prompt, markup: Markup) -> list[Piece]:
        """Return everything the model reads up to its first output token, in order."""
        ...


@dataclass(frozen=True)
class Wording:
    """The sentences of a chat template; an empty string leaves the part out."""

    system: str | None
    instruction: str
    label: str
    task: str


def pair(prompt: Prompt, label: str, *, separator: str = "\n") -> Iterator[Piece]:
    """Yield the demonstrations in prompt order: clip, label, text, separator, in the prompt's pair order.

    A text keeps the space before its first word: where a tokenizer glues spaces to words, that is how it reads running
    text, and a space of its own would be a token that no running text has.
    """
    for index, demo in enumerate(prompt.demonstrations):
        clip = [Clip(demo.audio, Label("demo", "audio", index))] if demo.audio is not None else []
        text: list[Piece] = []
        if demo.text is not None:
            if label:
                text.append(Text(label, Label("demo", "label", index)))
            text.append(Text(f" {demo.text}" if label else demo.text, Label("demo", "text", index), "content"))
        halves: Sequence[Sequence[Piece]] = [clip, text] if prompt.pair_order == "audio-first" else [text, clip]
        for half in halves:
            yield from half
        yield Text(separator, OTHER)


def target(prompt: Prompt) -> list[Piece]:
    """Return the target's clip, where the condition lets it be heard."""
    return [] if prompt.target.audio is None else [Clip(prompt.target.audio, Label("target", "audio"))]


def chat(body: Sequence[Piece], markup: Markup, *, system: str | None) -> list[Piece]:
    """Wrap the pieces of a user turn into a family's conversation, ending where the answer begins."""
    pieces: list[Piece] = [Text(markup.begin, OTHER)]
    if system and markup.system is not None:
        before, after = markup.system
        pieces += [Text(before, OTHER), Text(system, Label("system")), Text(after, OTHER)]
    elif system:
        body = [Text(f"{system}\n", Label("system")), *body]
    before, after = markup.user
    pieces += [Text(before, OTHER), *body, Text(after, OTHER), Text(markup.assistant, OTHER)]
    return [piece for piece in pieces if isinstance(piece, Clip) or piece.text]


@dataclass(frozen=True)
class ChatTemplate:
    """Our own wording inside the family's own turns.

    System and task are the same in every condition, and the instruction names only what is shown, so that conditions
    differ in their context and in nothing else; at zero shots ``micl`` and ``asr`` are the same prompt.
    """

    label: str = "Transcription:"

    def pieces(self, prompt: Prompt, markup: Markup) -> list[Piece]:
        """Return system turn, instruction, demonstrations, target and task."""
        body: list[Piece] = []
        if prompt.demonstrations:
            shown = {
                "t-icl": "sentences of one language",
                "icl": "sentences of one language",
                "micl": "recordings of one language with their transcriptions",
                "a-icl": "recordings of one language",
            }[prompt.condition]
            body.append(Text(f"Here are {shown}.\n", Label("instruction")))
            body += pair(prompt, self.label if prompt.condition == "micl" else "")
        if prompt.target.audio is not None:
            body += [*target(prompt), Text("\n", OTHER)]
            body.append(Text("Transcribe this recording. Answer with the transcription only.", Label("task")))
        else:
            body.append(Text("Write the next sentence. Answer with the sentence only.", Label("task")))
        return chat(body, markup, system=markup.default_system)


@dataclass(frozen=True)
class BareTemplate:
    """Demonstrations and target one after the other, without a word around them."""

    def pieces(self, prompt: Prompt, markup: Markup) -> list[Piece]:
        """Return one line per demonstration, then the target."""
        body = [Text(markup.begin, OTHER)] if markup.begin else []
        pieces: list[Piece] = [*body, *pair(prompt, ""), *target(prompt)]
        if not pieces:
            raise BadInput(
                "the template 'bare' says nothing for a prompt without demonstrations and target audio",
                given=f"condition {prompt.condition!r} with 0 shots",
                fix="use the template 'default', or show at least one demonstration",
            )
        return pieces


@dataclass(frozen=True)
class QuestionTemplate:
    """Each recording with its own question, and demonstrations with their answers."""

    def pieces(self, prompt: Prompt, markup: Markup) -> list[Piece]:
        """Return demonstrations, each a recording, a question and its answer, then the target with its question."""
        body: list[Piece] = []
        for index, demo in enumerate(prompt.demonstrations):
            if demo.audio is not None:
                body += [Clip(demo.audio, Label("demo", "audio", index)), Text("\n", OTHER)]
            asked = _asked(demo.question, demo.id)
            body.append(Text(f"{asked}\n", Label("demo", "label", index), "content"))
            if demo.text is not None:
                body += [Text("Answer:", Label("demo", "label", index))]
                body += [Text(f" {demo.text}", Label("demo", "text", index), "content"), Text("\n", OTHER)]
        if prompt.target.audio is not None:
            body += [*target(prompt), Text("\n", OTHER)]
        body += [Text(_asked(prompt.target.question, prompt.target.id), Label("task"), "content")]
        body.append(Text("\nAnswer with the answer only.", Label("task")))
        return chat(body, markup, system=markup.default_system)


def _asked(question: str | None, utterance: str) -> str:
    if question is None:
        raise BadInput(
            f"the template 'question' has nothing to ask about {utterance!r}",
            fix="give every row of the corpus a `question`, or use the template 'default' for transcription",
        )
    return question


DEFAULT: Template = ChatTemplate()
BARE: Template = BareTemplate()
QUESTION: Template = QuestionTemplate()
