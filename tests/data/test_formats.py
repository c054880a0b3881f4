"""Rows of every format become the same Sample; a wrong row is refused with field, value and reason."""

import pytest

from mixtune.data.formats import RowContext, RowError, sample_from_row
from mixtune.data.sample import ImageRef, Message


def parse(row, form="auto"):
    context = RowContext(format=form, task="fallback", find_image=lambda entry, field: ImageRef(f"{field}={entry}"))
    return sample_from_row(row, "d.json:7", context)


def chat(question="<image>what?", answer="red"):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def llava(question="what?", answer="red"):
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


WANTED = (Message("user", "<image>what?"), Message("assistant", "red"))


@pytest.mark.parametrize("row", [
    {"messages": chat(), "images": ["a"]},
    {"messages": chat(), "image": "a"},
    {"messages": chat([{"type": "image"}, {"type": "text", "text": "what?"}]), "images": ["a"]},
    {"messages": chat([{"type": "image"}, "what?"], [{"type": "text", "text": "red"}]), "images": ["a"]},
    {"conversations": llava("<image>what?"), "image": "a"},
    {"conversations": {"from": ["human", "gpt"], "value": ["<image>what?", "red"]}, "images": ["a"]},
])  # fmt: skip
def test_every_format_gives_the_same_messages(row):
    sample = parse(row)
    assert sample.messages == WANTED
    assert [ref.path.split("=")[1] for ref in sample.images] == ["a"]
    assert (sample.id, sample.task, sample.origin, sample.options) == ("d.json:7", "fallback", "d.json:7", ())


@pytest.mark.parametrize("part", [
    {"type": "image", "image": "b"}, {"type": "image", "path": "b"}, {"type": "image", "url": "b"},
    {"type": "image_url", "image_url": {"url": "b"}}, {"type": "image_url", "image_url": "b"},
])  # fmt: skip
def test_parts_may_name_their_image(part):
    sample = parse({"messages": chat([part, {"type": "text", "text": "what?"}])})
    assert sample.messages == WANTED
    assert sample.images == (ImageRef("content[0]=b"),)


def test_llava_and_sharegpt_put_a_single_image_first():
    for row, form in (({"conversations": llava(), "image": "a"}, "auto"),
                      ({"messages": chat("what?"), "images": ["a"]}, "sharegpt")):  # fmt: skip
        assert parse(row, form).messages[0].text == "<image>\nwhat?"
    assert parse({"conversations": llava()}).messages[0].text == "what?"


def test_system_prompts_task_labels_options_and_ids():
    row = {"id": 3, "system": "be short", "conversations": llava(), "options": ["red", 1], "source": "vqa"}
    sample = parse(row)
    assert sample.messages[0] == Message("system", "be short")
    assert (sample.id, sample.task, sample.options) == ("3", "vqa", ("red", "1"))
    for key in ("task", "task_name", "channel"):
        assert parse({**row, key: key}).task == key
    inside = parse({"conversations": [{"from": "system", "value": "be short"}, *llava()]})
    assert inside.messages[0] == Message("system", "be short")


@pytest.mark.parametrize("row, message", [
    ([1], "row: [1] is not an object with keys"),
    ({"message": chat()}, "messages: ['message'] are the row's keys; 'messages' is missing; did you mean 'messages'?"),
    ({"messages": []}, "messages: [] should be a list of at least one turn"),
    ({"messages": "hello"}, "messages: 'hello' should be a list of at least one turn"),
    ({"messages": ["hello"]}, "messages[0]: 'hello' is not an object with role and content"),
    ({"messages": [{"role": "usr", "content": "a"}]},
     "messages[0].role: 'usr' is no known role; did you mean 'user'?"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content: 5 is neither text nor a list of parts"),
    ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]},
     "messages[0].content[0]: {'type': 'audio'} is no part of type text (with text) or image"),
    ({"messages": chat("what?")[:1]}, "messages: ['user'] are the roles; there is no assistant turn"),
    ({"messages": chat("what?", " ")}, "messages: '' is an assistant's answer; answers must not be empty"),
    ({"messages": chat("what?")[::-1]}, "messages: 'assistant' speaks first; a conversation begins with the user"),
    ({"messages": chat("what?", "<image>"), "images": ["a"]}, "messages: '<image>' stands outside the user's turns"),
    ({"messages": chat()}, "images: 0 image(s), but 1 <image> placeholder(s) in messages"),
    ({"messages": chat("what?"), "images": ["a"]}, "images: 1 image(s), but 0 <image> placeholder(s) in messages"),
    ({"conversations": llava(), "images": ["a", "b"]},
     "images: 2 image(s), but 0 <image> placeholder(s) in conversations"),
    ({"conversations": llava("<image><image>"), "image": "a"},
     "images: 1 image(s), but 2 <image> placeholder(s) in conversations"),
    ({"messages": chat([{"type": "image", "path": "b"}]), "image": "a"},
     "image: 'a' is given, and parts of the messages name images too; keep one of them"),
    ({"messages": chat(), "image": "a", "task": " "},
     "task: ' ' is no task label; give a non-empty text or leave the key out"),
    ({"messages": chat(), "image": "a", "options": "red"}, "options: 'red' should be a list of answers"),
])  # fmt: skip
def test_wrong_rows_are_refused_with_field_value_and_reason(row, message):
    with pytest.raises(RowError) as caught:
        parse(row)
    assert str(caught.value) == message


def test_a_format_that_is_named_is_held_to():
    with pytest.raises(RowError, match=r"conversations: .* 'conversations' is missing"):
        parse({"messages": chat(), "image": "a"}, "llava")
    with pytest.raises(RowError, match=r"messages: .* 'messages' is missing"):
        parse({"conversations": llava()}, "messages")


def test_long_values_are_shortened():
    with pytest.raises(RowError) as caught:
        parse({"messages": "x" * 500})
    assert len(caught.value.value) == 80
