"""A corpus of small tasks whose answers are certain: the text of `train_tiny.py --corpus tasks`.

    python bench/tasks.py

prints held-out questions as a file of prompts (`--prompts` of `dlm-bench run` and of
`text_passes.py`), the answers as their names. A case is a question of QUESTION bytes and its answer
of ANSWER bytes, all of which the question determines, so that a decode is right or wrong. Most
answers can be told place by place; a number of `count` is easier told from the one before it. A
tenth of the cases, by a checksum of the question, is held out of training.
"""

import argparse
import json
import random
import string
import zlib
from collections.abc import Callable

import torch
from torch import Tensor

QUESTION, ANSWER = 16, 16
HELD_OUT = 10  # a question whose checksum this divides

Case = tuple[str, str]


def word(draw: random.Random) -> str:
    """Four letters."""
    return "".join(draw.choices("abcdefgh", k=4))


def copy(draw: random.Random) -> Case:
    """A word, again and again."""
    told = word(draw)
    return f"copy {told}", f"{told} " * 4


def reverse(draw: random.Random) -> Case:
    """A word from its end, again and again."""
    told = word(draw)
    return f"reverse {told}", f"{told[::-1]} " * 4


def look(draw: random.Random) -> Case:
    """Letters with the digits that a table has for them, again and again."""
    table = {letter: draw.choice(string.digits) for letter in "abc"}
    asked = draw.sample("abc", 3)
    told = "".join(letter + table[letter] for letter in asked)
    pairs = "".join(letter + digit for letter, digit in table.items())
    return f"look {pairs} {''.join(asked)}", f"{told} " * 3


def add(draw: random.Random) -> Case:
    """The sums of a digit and each of six."""
    one, *others = draw.choices(range(10), k=7)
    asked = "".join(map(str, others))
    return f"add {one} {asked}", " ".join(f"{one + other:02}" for other in others)


def count(draw: random.Random) -> Case:
    """Numbers in equal steps, without their hundreds."""
    start, step = draw.randrange(100), draw.randrange(1, 10)
    numbers = [f"{(start + i * step) % 100:02}" for i in range(7)]
    return f"count by {step} {numbers[0]}", " ".join(numbers[1:])


TASKS: dict[str, Callable[[random.Random], Case]] = {
    task.__name__: task for task in (copy, reverse, look, add, count)
}


def question(text: str) -> str:
    """A question behind spaces, and with a sign for its end."""
    return f"{text}=".rjust(QUESTION)


def is_held_out(text: str) -> bool:
    """Tell if a question is never trained on."""
    return zlib.crc32(text.encode()) % HELD_OUT == 0


def cases(number: int, *, held_out: bool) -> list[Case]:
    """Cases of the tasks in turn, all held out or none; the same ones at every call."""
    draw, found = random.Random(int(held_out)), list[Case]()
    tasks = list(TASKS.values())
    while len(found) < number:
        asked, answer = tasks[len(found) % len(tasks)](draw)
        if is_held_out(asked) == held_out:
            found.append((question(asked), answer[:ANSWER]))
    return found


def as_tokens(found: list[Case]) -> Tensor:
    """A byte a token, question and answer: (cases, QUESTION + ANSWER) int64."""
    return torch.tensor([list((asked + answer).encode()) for asked, answer in found])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=50, help="questions to print (50)")
    for asked, answer in cases(parser.parse_args().cases, held_out=True):
        print(json.dumps({"name": answer, "text": asked}))


if __name__ == "__main__":
    main()
