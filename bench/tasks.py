"""A corpus of small tasks whose answers are certain: the text of `train_tiny.py --corpus tasks`.

    python bench/tasks.py

prints a case of each task. A case is a question of QUESTION bytes and its answer of ANSWER bytes,
all of which the question determines, so that a decode is right or wrong. Some answers can be told
place by place (`copy`, `reverse`, `look`, `add`), in others a place follows from the one before it
(`walk`, `count`): those cost accuracy when a pass takes many tokens. A tenth of the cases, by a
checksum of the question, is held out of training.
"""

import random
import string
import zlib
from collections.abc import Callable

import torch
from torch import Tensor

QUESTION, ANSWER = 32, 32
HELD_OUT = 10  # a question whose checksum this divides

Case = tuple[str, str]


def word(draw: random.Random) -> str:
    """Four letters."""
    return "".join(draw.choices("abcdefgh", k=4))


def copy(draw: random.Random) -> Case:
    """A word, again and again."""
    told = word(draw)
    return f"copy {told}", f"{told} " * 7


def reverse(draw: random.Random) -> Case:
    """A word from its end, again and again."""
    told = word(draw)
    return f"reverse {told}", f"{told[::-1]} " * 7


def look(draw: random.Random) -> Case:
    """Letters with the digits that a table has for them, again and again."""
    table = {letter: draw.choice(string.digits) for letter in "abcd"}
    asked = draw.sample("abcd", 4)
    told = "".join(letter + table[letter] for letter in asked)
    pairs = "".join(letter + digit for letter, digit in table.items())
    return f"look {pairs} {''.join(asked)}", f"{told} " * 4


def add(draw: random.Random) -> Case:
    """Sums of two digits each."""
    pairs = [(draw.randrange(10), draw.randrange(10)) for _ in range(11)]
    asked = "".join(f"{a}{b}" for a, b in pairs)
    return f"add {asked}", " ".join(f"{a + b:02}" for a, b in pairs)


def count(draw: random.Random) -> Case:
    """Numbers in equal steps, without their hundreds."""
    start, step = draw.randrange(100), draw.randrange(1, 10)
    numbers = [f"{(start + i * step) % 100:02}" for i in range(12)]
    return f"count by {step} from {numbers[0]}", " ".join(numbers[1:])


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
    for asked, answer in cases(len(TASKS), held_out=False):
        print(asked + answer)


if __name__ == "__main__":
    main()
