"""The tasks: their answers are right, whole and determined, and some questions are held out."""

from tasks import ANSWER, QUESTION, TASKS, as_tokens, cases, is_held_out, main

from dlm_bench import load_prompts

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
            assert answer == (f"{word} " * 4)[:ANSWER]
        elif task == "look":
            digits = dict(zip(words[0][::2], words[0][1::2], strict=True))
            told = "".join(f"{letter}{digits[letter]}" for letter in words[1])
            assert answer == (f"{told} " * 3)[:ANSWER]
        else:
            if task == "add":
                numbers = [int(words[0]) + int(digit) for digit in words[1]]
            else:
                step, start = int(words[1]), int(words[2])
                numbers = [(start + i * step) % 100 for i in range(1, 7)]
            assert answer == " ".join(f"{number:02}" for number in numbers)[:ANSWER]


def test_held_out_questions_are_printed_as_prompts(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["tasks.py", "--cases", "7"])
    main()
    (tmp_path / "t.jsonl").write_text(capsys.readouterr().out)
    found = load_prompts(tmp_path / "t.jsonl")
    texts = [bytes(ids).decode() for ids in found.ids]
    assert [*zip(texts, found.names, strict=True)] == cases(7, held_out=True)
