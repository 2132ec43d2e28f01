"""The paper's prompts, twice: as its appendix prints them and as its released code sends them.

The two disagree, and the code's faults are part of what produced the published numbers, so both are kept by name. The
system sentences are our own wording of what the paper's say (an expert who learns a language from samples; a careful
transcriber of that language): their exact text is not published in a form we may copy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from attnlens.context.pieces import Markup, Piece, Text
from attnlens.context.prompt import Prompt
from attnlens.context.spans import Label
from attnlens.context.templates import Template, chat, pair, target
from attnlens.errors import BadInput

__all__ = ["PAPER", "PAPER_CODE", "PaperTemplate"]

LEARNER = "You are an expert at learning a language from the samples you are given."
TRANSCRIBER = " You are helpful and accurate, and you transcribe audio clips into written text of that language."
TASK = "Transcribe the audio clip into text and output only the transcription."
ASR = {
    "phi4": "Transcribe the audio clip into text.",
    "qwen": "Please provide the transcription for the audio clip.",
}
DIALECTS = tuple(ASR)


@dataclass(frozen=True)
class PaperTemplate:
    """Prompts of the paper for its two models. ``faults="kept"`` is what was really sent."""

    faults: Literal["mended", "kept"]
    zero_shot_is_asr: Literal["no"] = "no"
    """Its prompts without demonstrations are worded otherwise than its ASR prompts."""

    def pieces(self, prompt: Prompt, markup: Markup) -> list[Piece]:
        """Return the paper's prompt of a condition; conditions and families it never ran are refused."""
        if markup.dialect not in DIALECTS:
            raise BadInput(
                "the paper's prompts exist for its two models only",
                given=f"a family that speaks {markup.dialect!r}",
                present="phi4-multimodal, qwen3-omni",
                fix="use the template 'default'",
            )
        if prompt.condition == "a-icl":
            raise BadInput(
                "the paper has no prompt for the condition 'a-icl'",
                present="asr, t-icl, icl, micl",
                fix="use 'default'",
            )
        if prompt.condition == "asr":
            return self._asr(prompt, markup)
        system = LEARNER + (TRANSCRIBER if prompt.target.audio is not None else "")
        return chat(self._body(prompt), self._markup(prompt, markup), system=system)

    def _asr(self, prompt: Prompt, markup: Markup) -> list[Piece]:
        # No system turn and another task sentence: unlike the zero-shot prompts, and uncontrolled in the paper.
        task = Text(ASR[markup.dialect], Label("task"))
        body = [*target(prompt), task]
        return chat(body, self._markup(prompt, markup), system=None)

    def _body(self, prompt: Prompt) -> list[Piece]:
        body: list[Piece] = []
        if prompt.condition == "micl":
            body.append(Text("Here are sample pairs of audio and text:\n", Label("instruction")))
            body += pair(prompt, "Transcription:")
        elif self.faults == "mended":
            body.append(Text("Here are sample texts.\n", Label("instruction")))
            body += pair(prompt, "Transcription:")
        else:
            body.append(Text("Here are sample sentences:\n", Label("instruction")))
            body += pair(prompt, "")
        if prompt.target.audio is not None:
            body += [*target(prompt), Text(TASK, Label("task"))]
        elif self.faults == "kept":
            body.append(Text("The target sentence is:\n", Label("task")))
        return body

    def _markup(self, prompt: Prompt, markup: Markup) -> Markup:
        if self.faults == "mended":
            return markup
        if prompt.condition == "t-icl":
            # As released, the text-only prompt neither closes the user turn nor opens the answer.
            markup = replace(markup, user=(markup.user[0], ""), assistant="")
        if markup.dialect == "qwen":
            # As released, the system role is Phi's tag instead of a role name, and no line break follows `assistant`.
            before, after = markup.system or ("", "")
            markup = replace(
                markup, system=(before.replace("system", "<|system|>"), after), assistant=markup.assistant.rstrip("\n")
            )
        return markup


PAPER: Template = PaperTemplate("mended")
PAPER_CODE: Template = PaperTemplate("kept")
