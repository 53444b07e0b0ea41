"""Contestants that take turns: processes that read their input once, then run on demand and say how long it took.

A process is started with a job as its arguments. On stdin it gets `run`, which it answers with the seconds of one run, and
`save FILE`, which writes what the last run found as `.npy`. Each library has a process of its own, because the OpenMP runtimes that they
bring disturb each other within one.
"""

import json
import os
import subprocess
import sys
import time
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_info

# Some machines set these for other processors than the one at hand.
MISLEADING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


class Timed(NamedTuple):
    """What a run found, where only a part of it is to be timed."""

    seconds: float
    found: Any


def serve(jobs):
    """The main function of a peer: `jobs` maps a name to a function of the arguments that returns the function to time."""
    name, *arguments = sys.argv[1:]
    run = jobs[name](*arguments)
    reply({"ready": True, "threads": thread_pools()})
    found = None
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "run":
            start = time.perf_counter()
            found = run()
            seconds = time.perf_counter() - start
            if isinstance(found, Timed):
                seconds, found = found
            reply({"seconds": seconds})
        elif command == "save":
            np.save(argument, found)
            reply({"saved": True})


def reply(record):
    print(json.dumps(record), flush=True)


def thread_pools():
    """What threadpoolctl, which comes with scikit-learn, says of the libraries that are loaded."""
    return [{**pool, "filepath": os.path.basename(pool["filepath"])} for pool in threadpool_info()]


def read_lines(path):
    """The records of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


class Worker:
    """A contestant that runs in a process which stays."""

    def __init__(self, name, command):
        self.name, self.command = name, command

    def __enter__(self):
        environment = {key: value for key, value in os.environ.items() if key not in MISLEADING}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(self.command, stdin=pipe, stdout=pipe, text=True, env=environment)
        self.info = self.answer()
        return self

    def __exit__(self, *error):
        self.process.stdin.close()
        self.process.wait()

    def ask(self, line):
        print(line, file=self.process.stdin, flush=True)
        return self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended: {' '.join(map(str, self.command))}")
        return json.loads(line)

    def run(self):
        return self.ask("run")["seconds"]

    def save(self, path):
        self.ask(f"save {path}")


class SyncedWorker(Worker):
    """A worker whose file counts as written when it is on disk, as those of our commands do."""

    def __init__(self, name, command, target):
        super().__init__(name, command)
        self.target = target

    def run(self):
        seconds = super().run()
        start = time.perf_counter()
        with open(self.target, "rb+") as file:
            os.fsync(file.fileno())
        return seconds + time.perf_counter() - start


class Program:
    """A contestant that is a process from start to exit in every run."""

    def __init__(self, name, command):
        self.name, self.command, self.info = name, command, {}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def run(self):
        start = time.perf_counter()
        subprocess.run(self.command, check=True, stderr=subprocess.DEVNULL)
        return time.perf_counter() - start
