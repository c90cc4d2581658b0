"""What a pod of the fixtures says of answers that are none."""

from __future__ import annotations

from typing import Any, cast

import dnslib
import pytest

from lab.fixtures.pods import Resolution, TestPod
from lab.runtime.handles import PodHandle

QUERY = dnslib.DNSRecord.question("api.example.com")
CUT_OFF = QUERY.reply(ra=1).pack()[:14]


@pytest.mark.parametrize("answer", [b"", b"\0", CUT_OFF, QUERY.pack()[:12] + b"\xff" * 20])
def test_an_answer_that_cannot_be_read_is_a_result_and_no_exception(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = TestPod(cast(PodHandle, None))

    def asked(*_: Any) -> bytes:
        return answer

    monkeypatch.setattr(pod, "_asked", asked)
    assert pod.resolve("api.example.com") == Resolution("api.example.com", "")
    assert pod.connect("api.example.com", 443).outcome == "unresolved"
