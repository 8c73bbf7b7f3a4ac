"""infini-gram as ngram.py asks it: builds its index and answers rounds, in a Python that has it.

    python benchmarks/ngram_peer.py FOLDER WIDTH    (started by ngram.py; takes turns line by line)

FOLDER has tokenized.0 and offset.0, the text as infini-gram stores it, and asked.npz: arrays
"count L" of n-grams, and "next N" of prefixes that occur about N times. Prints one JSON object with
the CPU seconds and bytes of the index, and one for each line that is read: microseconds a call.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from infini_gram.engine import InfiniGramEngine

DTYPES = {2: "u16", 4: "u32"}
EXACT = 10_000  # more occurrences take it minutes


def build(folder: Path, width: int) -> float:
    """CPU seconds of making the suffix array on one core; the text is there."""
    (folder / "none").mkdir()
    settings = {
        "data_dir": folder / "none", "save_dir": folder, "token_dtype": DTYPES[width],
        "cpus": 1, "mem": 8, "ulimit": 1024,
    }  # fmt: skip
    options = [str(part) for key, value in settings.items() for part in (f"--{key}", value)]
    command = [sys.executable, "-m", "infini_gram.indexing", *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def microseconds(calls: list) -> float:
    begin = time.process_time()
    for call in calls:
        call()
    return 1e6 * (time.process_time() - begin) / len(calls)


def answer(engine: InfiniGramEngine, asked: dict[str, list[list[int]]]) -> dict[str, float]:
    """One round: its own default for what follows, which drops most of it, and everything."""
    took = {}
    for name, ngrams in asked.items():
        if name.startswith("count"):
            took[name] = microseconds([lambda n=n: engine.count(n) for n in ngrams])
        else:
            took[name + " default"] = microseconds([lambda n=n: engine.ntd(n) for n in ngrams])
            if int(name.split()[1]) <= EXACT:
                everything = [lambda n=n: engine.ntd(n, max_support=2**31) for n in ngrams[:3]]
                took[name] = microseconds(everything)
    return took


def main() -> None:
    folder, width = Path(sys.argv[1]), int(sys.argv[2])
    seconds = build(folder, width)
    size = sum((folder / f"{name}.0").stat().st_size for name in ("tokenized", "table", "offset"))
    print(json.dumps({"build": seconds, "bytes": size}), flush=True)
    end = 2 ** (8 * width) - 1
    engine = InfiniGramEngine(
        str(folder), eos_token_id=end - 1, vocab_size=end, token_dtype=DTYPES[width]
    )
    arrays = np.load(folder / "asked.npz")
    asked = {name: arrays[name].tolist() for name in arrays.files}
    for _ in sys.stdin:
        print(json.dumps(answer(engine, asked)), flush=True)


if __name__ == "__main__":
    main()
