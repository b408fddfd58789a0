"""Drives a server with OpenAI's own client.

    client.py http://127.0.0.1:8000 [--api-key KEY]

Nothing here depends on the model: what is asked for is compared with what the server itself said
before. Ends with `all well`, or with the first thing that is not.
"""

import argparse

import openai

MESSAGES = [{"role": "user", "content": "Why do rivers bend?"}]
PROMPT = "The capital of France is"


def models(client):
    listed = [model.id for model in client.models.list()]
    assert listed, "no model is served"
    assert client.models.retrieve(listed[0]).id == listed[0]
    return listed[0]


def greedy(client, model, **more):
    return client.chat.completions.create(
        model=model, messages=MESSAGES, temperature=0, max_tokens=40, **more
    )


def chat_whole_and_streamed_agree(client, model):
    whole = greedy(client, model)
    choice = whole.choices[0]
    assert choice.message.role == "assistant" and choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    chunks = list(greedy(client, model, stream=True, stream_options={"include_usage": True}))
    deltas = [it.choices[0].delta.content or "" for it in chunks if it.choices]
    assert "".join(deltas) == choice.message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == choice.finish_reason
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    return choice.message.content


def stop_string_ends_the_text_before_it(client, model, text):
    middle = len(text) // 2
    stop = text[middle : middle + 3]
    expected = text[: text.find(stop)]
    for stops in (stop, ["no such text", stop]):
        choice = greedy(client, model, stop=stops).choices[0]
        assert choice.message.content == expected, (choice.message.content, expected)
        assert choice.finish_reason == "stop"
    chunks = greedy(client, model, stop=stop, stream=True)
    assert "".join(it.choices[0].delta.content or "" for it in chunks) == expected


def logprobs_spell_the_text(client, model, text):
    choice = greedy(client, model, logprobs=True, top_logprobs=3).choices[0]
    entries = choice.logprobs.content
    spelled = b"".join(bytes(entry.bytes) for entry in entries)
    assert spelled.decode("utf-8", "replace") == text, (spelled, text)
    for entry in entries:
        assert entry.logprob <= 0 and len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].token == entry.token, "greedy takes the likeliest"
        likely = [it.logprob for it in entry.top_logprobs]
        assert likely == sorted(likely, reverse=True)


def seeds_repeat_and_answers_differ(client, model):
    def ask(seed):
        answer = client.chat.completions.create(
            model=model, messages=MESSAGES, n=2, seed=seed, temperature=1.0, max_tokens=32
        )
        assert [it.index for it in answer.choices] == [0, 1]
        return [it.message.content for it in answer.choices]

    first, second = ask(7), ask(7)
    assert first == second, (first, second)
    assert first[0] != first[1], first


def completions(client, model):
    def ask(**more):
        return client.completions.create(
            model=model, prompt=PROMPT, max_tokens=12, temperature=0, **more
        )

    whole = ask(logprobs=2)
    choice = whole.choices[0]
    assert whole.object == "text_completion" and choice.text
    logprobs = choice.logprobs
    lengths = {len(it) for it in (logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs)}
    assert lengths == {len(logprobs.text_offset)} and logprobs.text_offset[0] == 0
    assert "".join(it.choices[0].text for it in ask(stream=True)) == choice.text
    assert ask(echo=True).choices[0].text == PROMPT + choice.text
    two = client.completions.create(
        model=model, prompt=[PROMPT, PROMPT], max_tokens=12, temperature=0
    )
    assert [it.text for it in two.choices] == [choice.text, choice.text]


def refusals(client, model):
    def refused(error, **more):
        try:
            client.chat.completions.create(**{"model": model, "messages": MESSAGES, **more})
        except error as refusal:
            return refusal
        raise AssertionError(f"{error.__name__} was due for {more}")

    assert refused(openai.NotFoundError, model="no-such-model").code == "model_not_found"
    long = [{"role": "user", "content": "river " * 50_000}]
    too_long = refused(openai.BadRequestError, messages=long)
    assert too_long.code == "context_length_exceeded"
    assert refused(openai.BadRequestError, temperature=9).param == "temperature"


def wrong_key_is_refused(base):
    try:
        openai.OpenAI(base_url=base, api_key="wrong", max_retries=0).models.list()
    except openai.AuthenticationError as refusal:
        assert refusal.code == "invalid_api_key"
        return
    raise AssertionError("a wrong key opened the server")


def stream_can_be_left(client, model):
    with greedy(client, model, stream=True) as stream:
        next(iter(stream))
    assert greedy(client, model).choices[0].message.content


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("--api-key")
    arguments = parser.parse_args()
    base = arguments.server.rstrip("/") + "/v1"
    client = openai.OpenAI(base_url=base, api_key=arguments.api_key or "none", max_retries=0)
    model = models(client)
    text = chat_whole_and_streamed_agree(client, model)
    stop_string_ends_the_text_before_it(client, model, text)
    logprobs_spell_the_text(client, model, text)
    seeds_repeat_and_answers_differ(client, model)
    completions(client, model)
    refusals(client, model)
    stream_can_be_left(client, model)
    if arguments.api_key:
        wrong_key_is_refused(base)
    print("all well")


main()
