"""What a measurement has to say of where and when it was made."""

import datetime
import importlib.metadata
import os
import platform
import subprocess

PACKAGES = ["numpy", "scikit-learn", "faiss-cpu", "torch"]


def describe(root):
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": output(["git", "-C", root, "describe", "--always", "--dirty"]),
        "processor": cpu_info("model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "simd": sorted(flag for flag in cpu_info("flags").split() if flag.startswith(("sse4", "avx", "fma"))),
        "load": os.getloadavg(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "rustc": output(["rustc", "--version"]),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def output(command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def cpu_info(key):
    """What Linux says of the first processor."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "")
    except OSError:
        return ""
