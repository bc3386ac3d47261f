"""cohort serve in Anthropic's form and in that of OpenAI's responses, beside chat: the same answer, whole and streamed; calls of tools and
thinking in each. argv: folder of a model. What the model says is dictated by a regular expression."""
import json
import sys

from serve_client import Server, collect

MODEL = sys.argv[1]
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer", "minimum": 0, "maximum": 99}}, "additionalProperties": False}
FORCED = {
    "text": "Hello[a-f]{3}",
    "thinking": "<think>\nso [a-f]{3}\n</think>\n\nWell",
}


def dictated(name):
    return {"guided_regex": FORCED[name], "seed": 3}


def responses_stream(events):
    numbers = [e["sequence_number"] for e in events]
    assert numbers == list(range(len(events))), numbers
    assert events[0]["type"] == "response.created" and events[-1]["type"] in ("response.completed", "response.incomplete")
    text = "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
    done = [e["text"] for e in events if e["type"] == "response.output_text.done"]
    assert "".join(done) == text
    return text, events[-1]["response"]


def anthropic_stream(events):
    assert events[0]["type"] == "message_start" and events[-1]["type"] == "message_stop"
    blocks = {}
    for e in events:
        if e["type"] == "content_block_start":
            assert e["index"] == len(blocks)
            blocks[e["index"]] = {**e["content_block"], "json": ""}
        if e["type"] == "content_block_delta":
            kind = e["delta"]["type"]
            key = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "json"}[kind]
            blocks[e["index"]][key] += e["delta"].get("text", e["delta"].get("thinking", e["delta"].get("partial_json")))
    return list(blocks.values()), [e for e in events if e["type"] == "message_delta"][-1]


def stream(server, path, body):
    """Server-sent events of a form whose stream has no [DONE]."""
    return server.events(path, body)


with Server(MODEL) as s:
    for name in ("text", "thinking"):
        chat = s.good("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 60, **dictated(name)})
        message = chat["choices"][0]["message"]
        parts = collect(s.events("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 60, **dictated(name)}))[0]
        assert parts["content"] == message["content"] and parts["thinking"] == message.get("reasoning_content", "")
        assert (name == "thinking") == ("reasoning_content" in message), message
        if name == "thinking":
            assert chat["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0

        ask = {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}], "max_tokens": 60, **dictated(name)}
        whole = s.good("/v1/messages", ask)
        assert whole["type"] == "message" and whole["stop_reason"] == "end_turn"
        assert [b["text"] for b in whole["content"] if b["type"] == "text"] == [message["content"]], (whole, message)
        blocks, delta = anthropic_stream(stream(s, "/v1/messages", ask))
        assert [b["text"] for b in blocks if b["type"] == "text"] == [message["content"]]
        assert [b["thinking"] for b in blocks if b["type"] == "thinking"] == [message.get("reasoning_content")] * (name == "thinking")
        assert delta["delta"]["stop_reason"] == "end_turn" and delta["usage"]["output_tokens"] == chat["usage"]["completion_tokens"]

        ask = {"input": "x", "max_output_tokens": 60, **dictated(name)}
        whole = s.good("/v1/responses", ask)
        texts = [p["text"] for o in whole["output"] if o["type"] == "message" for p in o["content"]]
        assert texts == [message["content"]] and whole["status"] == "completed"
        text, final = responses_stream(stream(s, "/v1/responses", ask))
        assert text == message["content"] and [o["type"] for o in final["output"]] == [o["type"] for o in whole["output"]]

    tools = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}]
    history = [{"role": "user", "content": "x"},
               {"role": "assistant", "content": None,
                "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}]},
               {"role": "tool", "tool_call_id": "a", "content": "5"}]
    prompt = s.good("/apply-template", {"messages": history, "tools": tools})["prompt"]
    same = s.good("/tokenize", {"messages": history, "tools": tools})["count"]
    counted = s.good("/v1/messages/count_tokens", {
        "messages": [{"role": "user", "content": "x"},
                     {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}]},
                     {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "5"}]}],
        "tools": [{"name": "f", "description": "d", "input_schema": SCHEMA}]})
    if "f" in prompt:
        assert counted["input_tokens"] == same, (counted, same, prompt)
    # Calls that are forced: of any tool, of one by name, in every form, whole and streamed.
    g = {"type": "function", "function": {"name": "g", "parameters": {"type": "object", "properties": {"y": {"enum": ["p", "q"]}}, "required": ["y"], "additionalProperties": False}}}
    for choice, names in (("required", "fg"), ({"type": "function", "function": {"name": "g"}}, "g")):
        for seed in range(3):
            ask = {"messages": [{"role": "user", "content": "x"}], "tools": tools + [g], "tool_choice": choice, "seed": seed, "max_tokens": 150,
                   "parallel_tool_calls": False}
            made = s.good("/v1/chat/completions", ask)["choices"][0]
            calls = made["message"]["tool_calls"]
            assert made["finish_reason"] == "tool_calls" and len(calls) == 1 and calls[0]["function"]["name"] in names, made
            assert made["message"]["content"] is None and calls[0]["id"].startswith("call_")
            value = json.loads(calls[0]["function"]["arguments"])
            assert value.get("y", "p") in ("p", "q") if calls[0]["function"]["name"] == "g" else isinstance(value.get("x", 1), int), value
            parts = collect(s.events("/v1/chat/completions", ask))[0]
            assert [(c["name"], c["arguments"]) for c in parts["calls"]] == [(c["function"]["name"], c["function"]["arguments"]) for c in calls]
    ask = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 150, "seed": 1, "tool_choice": {"type": "tool", "name": "g"},
           "tools": [{"name": "g", "input_schema": g["function"]["parameters"]}]}
    whole = s.good("/v1/messages", ask)
    assert whole["stop_reason"] == "tool_use" and whole["content"][-1]["input"]["y"] in "pq", whole
    blocks, delta = anthropic_stream(stream(s, "/v1/messages", ask))
    assert json.loads(blocks[-1]["json"]) == whole["content"][-1]["input"] and delta["delta"]["stop_reason"] == "tool_use"
    ask = {"input": "x", "max_output_tokens": 150, "seed": 1, "tool_choice": {"type": "function", "name": "g"},
           "tools": [{"type": "function", "name": "g", "parameters": g["function"]["parameters"]}]}
    whole = s.good("/v1/responses", ask)
    events = stream(s, "/v1/responses", ask)
    final = responses_stream(events)[1]
    assert final["output"][-1]["type"] == "function_call" and final["output"][-1]["arguments"] == whole["output"][-1]["arguments"]
    assert [e["arguments"] for e in events if e["type"] == "response.function_call_arguments.done"] == [o["arguments"] for o in whole["output"]]
    for choice, code in (("maybe", "invalid_value"), ({"type": "function", "function": {"name": "nothing"}}, "invalid_value")):
        assert s.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "tools": tools, "tool_choice": choice})[2][
            "error"]["code"] == code

    for body, param in (({"messages": []}, "messages"), ({"max_tokens": 5}, "messages"),
                        ({"messages": [{"role": "robot", "content": "x"}], "max_tokens": 5}, "messages")):
        status, _, value = s.post("/v1/messages", body)
        assert status == 400 and value["type"] == "error" and value["error"]["type"] == "invalid_request_error", value
    assert s.post("/v1/messages", {"messages": [{"role": "user", "content": "x"}]})[0] == 400, "max_tokens is required"
    assert s.post("/v1/responses", {"input": "x", "previous_response_id": "resp_1"})[0] == 400
    assert s.post("/v1/responses", {})[2]["error"]["param"] == "input"
    assert s.end() == 0
print("forms agree")
