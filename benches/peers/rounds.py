"""Rounds in which contestants take turns, and what comes out of them."""

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

OURS, CONTROL = "ours", "ours again"
# Threads of other contestants that still wait for work fall asleep meanwhile.
PAUSE = 0.2


@dataclass
class Group:
    """Contestants that do the same work: ours, ours again as the control, peers."""

    title: str
    contestants: list
    # Takes the contestants, started and run, and returns a note for each name; it ends everything where one did other work.
    check: Callable
    # Contestants that take so long that one run has to do.
    once: tuple = ()

    def measure(self, rounds):
        """Runs all rounds; a record for the table and the file."""
        with ExitStack() as stack:
            for contestant in self.contestants:
                stack.enter_context(contestant)
            seconds = self.take_turns(rounds)
            notes = self.check(self.contestants)
        results = [
            {"name": c.name, "seconds": seconds[c.name], **ratios(seconds[c.name], seconds[OURS]), "check": notes.get(c.name, ""), **c.info}
            for c in self.contestants
        ]
        return {"title": self.title, "results": results}

    def take_turns(self, rounds):
        """Seconds of every round by name. Round 0 warms up and does not count; each round begins with another contestant."""
        seconds = {contestant.name: [] for contestant in self.contestants}
        for number in range(rounds + 1):
            first = number % len(self.contestants)
            for contestant in self.contestants[first:] + self.contestants[:first]:
                if contestant.name in self.once and number != 1:
                    continue
                time.sleep(PAUSE)
                elapsed = contestant.run()
                if number > 0:
                    seconds[contestant.name].append(elapsed)
        return seconds


def ratios(seconds, ours):
    """How many times as long as ours each round took; rounds that came to no end have None for seconds."""
    values = [a / b for a, b in zip(seconds, ours, strict=False) if a and b]
    ended = [a for a in seconds if a]
    return {"median": spread(ended)[0], "ratios": values, "ratio": dict(zip(("median", "min", "max"), spread(values), strict=True))}


def spread(values):
    """Median, least and greatest."""
    return (statistics.median(values), min(values), max(values)) if values else (None, None, None)
