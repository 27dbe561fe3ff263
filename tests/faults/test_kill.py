"""SIGKILL to each part while work is on its way: nothing acknowledged is lost, nothing is done twice."""

import os
import random
from functools import partial
from pathlib import Path

import pytest
from support.dicom_objects import make_objects
from support.site import Site, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

PARTS = ("receiver", "listener", "worker", "platform", "temporal", "api")
ROUNDS = int(os.environ.get("FAULTS") or 3)


def test_studies_go_the_whole_way(site: Site, tmp_path: Path) -> None:
    """Without a fault, to tell a broken site from a fault."""
    site.send("ASSOC", make_objects(tmp_path / "a", 5))
    site.send("WINDOW", make_objects(tmp_path / "b", 5))
    assert site.settle().jobs == 2


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_killed_in_the_middle_of_an_association(site: Site, tmp_path: Path, part: str) -> None:
    before = site.count("ASSOC") + site.count("WINDOW")
    sending = [
        site.send_aside("ASSOC", make_objects(tmp_path / "a", 60, size=100_000)),
        site.send_aside("WINDOW", make_objects(tmp_path / "b", 60, size=100_000)),
    ]
    wait_until("some are acknowledged", lambda: site.count("ASSOC") + site.count("WINDOW") > before + 20)
    site.kill(part)
    for thread in sending:
        thread.join(120)
    site.settle()


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_killed_while_jobs_are_submitted_and_results_exported(site: Site, tmp_path: Path, part: str) -> None:
    for number in range(4):
        site.send("ASSOC", make_objects(tmp_path / f"a{number}", 6))
    site.kill(part)
    site.settle()


def test_everything_is_killed_at_once(site: Site, tmp_path: Path) -> None:
    before = site.count("ASSOC")
    sending = site.send_aside("ASSOC", make_objects(tmp_path / "a", 40, size=50_000))
    wait_until("some are acknowledged", lambda: site.count("ASSOC") > before + 5)
    site.kill_everything()
    site.start()
    sending.join(120)
    site.settle()


@pytest.mark.timeout(600 + 60 * ROUNDS)
def test_random_kills(site: Site, tmp_path: Path) -> None:
    """As many as FAULTS says, at random points of a steady stream; the seed is printed, to repeat a run."""
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6))
    print(f"FAULTS_SEED={seed}")  # noqa: T201 - shown by pytest when the test fails
    chance = random.Random(seed)
    for number in range(ROUNDS):
        ae_title = chance.choice(["ASSOC", "WINDOW"])
        files = make_objects(tmp_path / f"r{number}", chance.randint(1, 25), size=chance.choice([500, 60_000]))
        aim = site.count(ae_title) + chance.randint(0, len(files))
        sending = site.send_aside(ae_title, files)
        reached = partial(_reached, site, ae_title, aim)
        wait_until("the chosen point", reached)
        site.kill(chance.choice(PARTS))
        sending.join(180)
        if number % 10 == 9:
            site.settle(240)
    site.settle(240)


def _reached(site: Site, ae_title: str, aim: int) -> bool:
    return site.count(ae_title) >= aim
