"""Fine-tuning from few samples: depth on the change, beside full fine-tuning, LoRA and others.

A network 784-128-128-10, trained on 10,000 upright MNIST images, goes on to images turned by 45
degrees, of which it sees 16 to 1024: 200 steps, batches of at most 64. Each method
(fine_tuning_common.py) has six trials of a rate and of its own option for each number of samples,
on one seed, chosen by the accuracy on 1,000 held-out turned images; it is then run on five other
seeds. Reported are the accuracies on 2,000 turned and 2,000 upright test images, in per cent
(median, least and largest of the seeds), and the least rank that has 90 % of the squared change of
the second matrix (128 x 128), median.
"""

from functools import partial

import torch
from common import arguments, parse
from fine_tuning_common import METHODS, Study, compare, report_both, train
from networks_common import accuracy, layers
from scipy.ndimage import rotate
from torch import nn

from virtualdepth.data import load_mnist


def main() -> None:
    parser = arguments(__doc__, docs=True)
    parser.add_argument("--data-dir", metavar="DIR", help="with MNIST's idx files")
    options = parse(parser, "fine_tuning_rivals.json")
    images, labels = load_mnist(options.data_dir)
    images, labels = images[:15_000, 0] + 0.5, labels[:15_000]
    aside = torch.from_numpy(rotate(images.numpy(), 45, axes=(1, 2), reshape=False, order=1))
    images, aside = images.flatten(1), aside.flatten(1)
    torch.manual_seed(0)
    base = nn.Sequential(
        nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    upright = images[:10_000], labels[:10_000]
    adam = torch.optim.Adam(base.parameters(), 1e-3)
    train(base, adam, upright, 100 if options.quick else 2000, 64, 0)
    tests = {"turned": aside[13_000:], "upright": images[13_000:]}
    study = Study(
        base,
        data=(aside[10_000:12_000], labels[10_000:12_000]),
        held_out=(aside[12_000:13_000], labels[12_000:13_000]),
        scores={
            name: partial(accuracy, data=(own, labels[13_000:])) for name, own in tests.items()
        },
        matrix=lambda model: layers(model)[1].weight,
        **({"counts": (16,), "trials": 1, "seeds": (1,)} if options.quick else {}),
    )
    report_both("fine_tuning_rivals", options, study, compare(study, METHODS))


if __name__ == "__main__":
    main()
