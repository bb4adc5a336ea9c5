"""vLLM's model runner V2, the one that GPUs take, on CPUs: Triton's interpreter runs its kernels.

A program, because vLLM looks for Triton when it is imported, and its engine's process imports what this one does. Given
the folder of a tiny model, it starts the shipped engine, puts it through what every engine is put through, and names
each check that held.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from transformers import AutoTokenizer

from jobs.evaluate.engines.protocol import start
from jobs.evaluate.sweep.policies.extensions import grid
from jobs.evaluate.sweep.prompts import Prompter, Unit, room
from jobs.template import TEMPLATES
from tests.evaluate.engines import test_engines as checks


def interpret_triton() -> None:
    """Has vLLM, which is not imported yet, take Triton's interpreter for a Triton that compiles for CPUs."""
    os.environ |= {"TRITON_INTERPRET": "1", "VLLM_USE_V2_MODEL_RUNNER": "1"}

    from triton.backends import backends

    backends["cpu"] = SimpleNamespace(driver=SimpleNamespace(is_active=lambda: True))

    from vllm.v1.sample.ops import topk_topp_sampler

    topk_topp_sampler.HAS_TRITON = False  # the interpreter cannot run its top-p kernel; torch's function is the same


interpret_triton()


async def main(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompter = Prompter(tokenizer, TEMPLATES["think"], [tokenizer.eos_token_id])
    checks.POLICIES = grid([2, 16, None], ["Wait", ""], [1, 2], [24])
    forcing = prompter.forcing(checks.POLICIES)
    prompts = [prompter.prompt(question) for question in checks.QUESTIONS[:3]]
    units = [Unit(str(n), 0, prompt, room(prompt, 128, forcing, 8)) for n, prompt in enumerate(prompts)]
    generate = checks.Generate(folder)
    expected = {
        (unit.item, policy): generate.alone(policy, unit, forcing) for unit in units for policy in checks.POLICIES
    }
    engine = await start(replace(checks.spec("vllm", folder), counts_written=True))
    try:
        await checks.check_requests(engine, folder)
        print("requests", flush=True)
        await checks.check_penalties(engine, folder)
        print("penalties", flush=True)
        checks.assert_leaves_equal(await checks.decode(engine, units, forcing), units, forcing, expected)
        print("leaves", flush=True)
        await checks.check_restarts(engine, units[:1], forcing, [6, 2, 4])
        print("restarts", flush=True)
    finally:
        await engine.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
