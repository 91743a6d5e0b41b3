"""Hooks of schemathesis: what reads asks for what is there, so that answers are judged and not only refusals, and
what changes something asks an agent that is not there, so that nothing on a host is changed."""

import json
import os
import re

import schemathesis

REAL = {
    "agent": os.environ["DOCKCTL_TEST_AGENT"],
    "container": os.environ["DOCKCTL_TEST_CONTAINER"],
    "image": os.environ["DOCKCTL_TEST_IMAGE"],
    "images": [os.environ["DOCKCTL_TEST_IMAGE"]],
    "network": "none",
    "path": "/etc",
}
READS = re.compile(r"/(Diff|Export|Get|Inspect|List|Ping|Read|Save|Stat|Stream)\w*$")


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body
    if not isinstance(body, dict) or "agent" not in body:
        return
    if not READS.search(case.operation.path):
        body["agent"] = "nobody"
        return
    for field, value in REAL.items():
        if isinstance(body.get(field), type(value)):
            body[field] = value
    body.pop("follow", None)


@schemathesis.deserializer("application/x-ndjson")
def first_message(context, response):
    """The schema of a stream is that of each of its messages."""
    return json.loads(response.content.split(b"\n", 1)[0] or b"{}")
