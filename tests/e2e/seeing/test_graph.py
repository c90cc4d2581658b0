"""`lab.graph`: the picture has what happened."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lab.runtime.lab import Lab

from ...waiting import until
from ..lab.small_labs import tiny
from .commands import REPOSITORY, argv, environment, invoke

pytestmark = pytest.mark.root


def edges(lab: Lab, **wanted: object) -> list[dict[str, Any]]:
    done = invoke(lab, "lab.graph", "--json")
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["version"] == 1
    return [one for one in value["edges"] if wanted.items() <= one.items()]


def test_what_was_refused_and_what_was_dropped_is_on_the_pods_edges(lab: Lab) -> None:
    batch = lab.pod("batch")
    batch.run(["dig", "tracker.example.org"])
    batch.run(["curl", "-s", "-m", "1", "http://198.51.100.99/"])
    (asked,) = until(lambda: edges(lab, pod="default/batch", target="tracker.example.org"))
    assert (asked["kind"], asked["asked"]) == ("name", 0)
    assert asked["refused"] >= 1
    assert any("default/batch" in why for why in asked["why"])
    (sent,) = until(lambda: edges(lab, pod="default/batch", target="198.51.100.99"))
    assert sent["dropped"] >= 1


def test_a_connection_counts_for_the_name_it_was_made_to(lab: Lab) -> None:
    done = lab.pod("frontend").run(["curl", "-sS", "https://www.example.com/"])
    assert done.returncode == 0, done.stderr

    def connected() -> list[dict[str, Any]]:
        found = edges(lab, pod="default/frontend", target="www.example.com")
        return [one for one in found if one["forwarded"] and one["asked"]]

    assert until(connected)


def test_followed_the_page_is_drawn_again_and_in_the_end_stands_still(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "lab.html"
    following = argv(lab, "lab.graph", "--follow", "--output", str(path))
    with subprocess.Popen(following, cwd=REPOSITORY, env=environment(lab), stderr=subprocess.PIPE) as drawing:
        try:
            until(path.exists, timeout_s=30)
            assert 'http-equiv="refresh"' in path.read_text()
            lab.pod("batch").run(["dig", "storage.example.net"])
            until(lambda: ">storage.example.net<" in path.read_text(), timeout_s=30)
        finally:
            drawing.send_signal(2)
            drawing.wait(30)
    assert 'http-equiv="refresh"' not in path.read_text()


def test_it_follows_a_lab_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "lab.html"
    lab = Lab.up(tiny("graphed"))
    with subprocess.Popen(
        argv(lab, "lab.graph", "--follow", "--output", str(path)),
        cwd=REPOSITORY,
        env=environment(lab),
        stderr=subprocess.PIPE,
        text=True,
    ) as drawing:
        try:
            until(path.exists, timeout_s=30)
            lab.down()
            _, said = drawing.communicate(timeout=60)
        finally:
            drawing.kill()
            lab.down()
    assert (drawing.returncode, "lab graphed is down" in said) == (0, True), said
    assert 'http-equiv="refresh"' not in path.read_text()


def test_an_output_that_is_neither_html_nor_svg_is_refused(lab: Lab, tmp_path: Path) -> None:
    done = invoke(lab, "lab.graph", "--output", str(tmp_path / "lab.gif"))
    assert (done.returncode, "--output FILE.html or FILE.svg" in done.stderr) == (2, True)
