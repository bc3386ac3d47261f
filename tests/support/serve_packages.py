"""cohort serve and the official packages openai and anthropic. argv: folder of a model."""
import json
import sys

import anthropic
import openai

from serve_client import Server

MODEL = sys.argv[1]
USER = [{"role": "user", "content": "hi"}]
CALL = 'Sure\\.\n<tool_call>\n\\{"name": "f", "arguments": \\{"x": 1\\}\\}\n</tool_call>'

with Server(MODEL, "--api-key", "sesame") as s:
    base = "http://127.0.0.1:%d" % s.port
    client = openai.OpenAI(base_url=base + "/v1", api_key="sesame", max_retries=0)
    name = client.models.list().data[0].id
    assert client.models.retrieve(name).id == name

    whole = client.chat.completions.create(model=name, messages=USER, seed=4, max_tokens=12, n=2, logprobs=True, top_logprobs=3, temperature=0.7)
    assert len(whole.choices) == 2 and 0 < whole.usage.completion_tokens <= 24
    entry = whole.choices[0].logprobs.content[0]
    assert len(entry.top_logprobs) == 3 and entry.logprob <= 0 and entry.bytes

    text = ""
    stream = client.chat.completions.create(model=name, messages=USER, seed=4, max_tokens=12, n=1, temperature=0.7, stream=True,
                                            stream_options={"include_usage": True})
    for chunk in stream:
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
        last = chunk
    assert text == whole.choices[0].message.content and last.usage.completion_tokens <= 12

    schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["a"], "additionalProperties": False}
    made = client.chat.completions.create(model=name, messages=USER, max_tokens=60, response_format={
        "type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}})
    assert list(json.loads(made.choices[0].message.content)) == ["a"]

    ended = {"model": name, "messages": USER, "seed": 3, "max_tokens": 40, "stop": ["\n"], "temperature": 0.7,
             "extra_body": {"guided_regex": "[a-z]{4,9}"}} # the helper of streams takes no answer that was cut by its length
    with client.chat.completions.stream(**ended) as helper:
        for _ in helper:
            pass
        assert helper.get_final_completion().choices[0].message.content == client.chat.completions.create(**ended).choices[0].message.content

    plain = client.completions.create(model=name, prompt="hi", max_tokens=5, logprobs=2, seed=1)
    assert len(plain.choices[0].logprobs.tokens) == 5

    response = client.responses.create(model=name, input="hi", max_output_tokens=12, extra_body={"seed": 4, "temperature": 0.7})
    assert response.output_text == text and response.status == "incomplete", (response, text)
    with client.responses.stream(model=name, input="hi", max_output_tokens=12, extra_body={"seed": 4}, temperature=0.7) as events:
        said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == text, (said, text)

    for wrong, error in (({"temperature": 9999}, openai.BadRequestError), ({"model": "other"}, openai.NotFoundError)):
        try:
            client.chat.completions.create(**{"model": name, "messages": USER, **wrong})
            raise SystemExit("not refused: %s" % wrong)
        except error as problem:
            assert problem.code and problem.param, problem
    try:
        openai.OpenAI(base_url=base + "/v1", api_key="wrong", max_retries=0).models.list()
        raise SystemExit("not refused")
    except openai.AuthenticationError:
        pass

    other = anthropic.Anthropic(base_url=base, api_key="sesame", max_retries=0)
    message = other.messages.create(model=name, max_tokens=12, messages=USER, extra_body={"seed": 4, "temperature": 0.7})
    assert message.content[-1].text == text and message.stop_reason == "max_tokens", message
    with other.messages.stream(model=name, max_tokens=12, messages=USER, extra_body={"seed": 4, "temperature": 0.7}) as events:
        assert "".join(events.text_stream) == text
        assert events.get_final_message().usage.output_tokens <= 12
    assert other.messages.count_tokens(model=name, messages=USER).input_tokens == message.usage.input_tokens
    try:
        other.messages.create(model=name, max_tokens=12, messages=[])
        raise SystemExit("not refused")
    except anthropic.BadRequestError:
        pass
    assert s.end() == 0
print("the packages work")
