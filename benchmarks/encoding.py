"""What does encoding a prompt cost beyond the feature extractor and the tokenizer? `python benchmarks/encoding.py`

Five shots of MICL, clips in memory, no weights. The family's own time is that of extracting each clip's features and of
one tokenizer call over the whole text; both are taken in turn with the whole encoding, and the
difference is attnlens's share. Processor seconds of one thread.
"""

import statistics
import sys
import time

from attnlens.context.build import build_prompt
from attnlens.context.encode import encode
from attnlens.models.front import load_front_end
from attnlens.models.registry import FAMILIES, TINY
from attnlens.testing import corpus

LIMIT_MS = 5.0
ROUNDS = 15


def main() -> None:
    speech = corpus(pool=5)
    prompt = build_prompt(speech.test[0], speech.pool, condition="micl", shots=5)
    clips = [demo.audio.load() for demo in prompt.demonstrations if demo.audio is not None]
    clips.append(speech.test[0].audio.load())
    print(
        f"{'family':18} {'positions':>9} {'encode ms':>10} {'its own ms':>11} {'ours ms':>8}  limit {LIMIT_MS:.0f} ms"
    )
    late = []
    for family in sorted(set(FAMILIES) - {"whisper"}):
        front = load_front_end(TINY + family)
        encoded = encode(prompt, front)
        text = front.tokenizer.decode(encoded.ids[encoded.ids != front.audio_token_id])
        ours, own = [], []
        for _ in range(ROUNDS):
            start = time.process_time()
            encode(prompt, front)
            middle = time.process_time()
            # Kept, as encoding keeps them: fresh memory for a few megabytes costs more than the rest of our share.
            kept = [front.features(clip) for clip in clips]
            front.tokenizer(text, add_special_tokens=False)
            own.append(time.process_time() - middle)
            del kept
            ours.append(middle - start)
        whole, its = statistics.median(ours) * 1e3, statistics.median(own) * 1e3
        print(f"{family:18} {len(encoded.ids):9} {whole:10.1f} {its:11.1f} {whole - its:8.1f}")
        if whole - its > LIMIT_MS:
            late.append(family)
    sys.exit(f"over the limit: {', '.join(late)}" if late else 0)


if __name__ == "__main__":
    main()
