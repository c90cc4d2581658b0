"""A resolver that gives questions back in lower case, whatever case they were asked in."""

from __future__ import annotations

import sys

from acns.dns import message
from acns.fqdn import gate
from acns.fqdn.gate import Deliver, GateSettings, Ignore
from acns.resolver.__main__ import main

_judge = gate.judge_answer


def _in_lower_case(query: message.Query, packet: bytes, settings: GateSettings) -> Ignore | Deliver:
    judged = _judge(query, packet, settings)
    if isinstance(judged, Ignore):
        return judged
    begin = message.HEADER_OCTETS
    end = begin + len(query.question_wire) - 4
    lowered = judged.packet[:begin] + judged.packet[begin:end].lower() + judged.packet[end:]
    return Deliver(lowered, judged.learned, judged.rcode)


gate.judge_answer = _in_lower_case

if __name__ == "__main__":
    sys.exit(main())
