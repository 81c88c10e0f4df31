"""Every benchmark, one after another; what failed is said at the end: `python -m benchmarks`."""

import subprocess
import sys

STEPS = ("quality", "speed", "redaction", "embedding", "loop", "swap")

failed = []
for step in STEPS:
    print(f"\n== {step}", flush=True)
    if subprocess.run([sys.executable, "-m", f"benchmarks.{step}"], check=False).returncode:
        failed.append(step)
print("\n" + (f"fell short or failed: {', '.join(failed)}" if failed else "all held"))
sys.exit(bool(failed))
