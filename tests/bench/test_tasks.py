"""The tasks: their answers are right, whole and determined, and some questions are held out."""

from tasks import ANSWER, QUESTION, TASKS, as_tokens, cases, is_held_out

NUMBER = 200  # of cases, 40 of each task


def asked_of(question):
    """The words of a question, its sign aside."""
    return question.strip().removesuffix("=").split()


def test_every_question_and_every_answer_has_its_bytes():
    found = cases(NUMBER, held_out=False)
    assert {(len(asked), len(answer)) for asked, answer in found} == {(QUESTION, ANSWER)}
    assert {asked_of(asked)[0] for asked, _ in found} == {*TASKS}
    assert as_tokens(found).shape == (NUMBER, QUESTION + ANSWER)
    assert bytes(as_tokens(found)[3].tolist()).decode() == "".join(found[3])


def test_no_question_is_both_trained_on_and_held_out():
    seen, held = ({asked for asked, _ in cases(NUMBER, held_out=out)} for out in (False, True))
    assert not seen & held
    assert all(is_held_out(" ".join(asked_of(asked))) for asked in held)


def test_the_answers_are_right():
    for asked, answer in cases(NUMBER, held_out=True):
        task, *words = asked_of(asked)
        if task in ("copy", "reverse"):
            word = words[0] if task == "copy" else words[0][::-1]
            assert answer == (f"{word} " * 7)[:ANSWER]
        elif task == "look":
            digits = dict(zip(words[0][::2], words[0][1::2], strict=True))
            told = "".join(f"{letter}{digits[letter]}" for letter in words[1])
            assert answer == (f"{told} " * 4)[:ANSWER]
        elif task == "add":
            sums = [int(a) + int(b) for a, b in zip(words[0][::2], words[0][1::2], strict=True)]
            assert [int(number) for number in answer.split()] == sums
        else:
            step, start = int(words[1]), int(words[3])
            numbers = [int(number) for number in answer.split()]
            assert numbers == [(start + i * step) % 100 for i in range(1, 12)]
