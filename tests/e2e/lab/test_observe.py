"""`lab.observe` where there is nothing to observe, or where something else was meant."""

from __future__ import annotations

import pytest

from lab.runtime.lab import Lab

from .test_commands import invoke


def test_a_lab_without_agents_keeps_no_flows_and_says_so(lab: Lab) -> None:
    done = invoke("lab.observe")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: lab shared keeps no flow log\n  hint: ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--pod", "nobody"), "no pod nobody in lab shared\n  hint: pods: default/a"),
        (("--pod", ""), "no pod  in lab shared"),
        (("--verdict", "DROPED"), "there is no verdict 'DROPED'\n  hint: did you mean 'DROPPED'?"),
        (("--fqdn", "https://a.io"), "'https://a.io' is no name"),
        (("--last", "many"), "'many' is no number of flows\n  hint: as in --last 20"),
        (("--name", "unknown"), "no lab unknown is up"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_said_with_exit_code_2(
    lab: Lab, arguments: tuple[str, ...], says: str
) -> None:
    done = invoke("lab.observe", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {says}"), done.stderr
    assert "Traceback" not in done.stderr
