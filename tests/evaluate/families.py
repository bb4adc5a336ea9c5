"""Chat templates in the shape of each family's own, written from what is documented of them: delimiters and switches.

Everything else is left out: tools, images, earlier turns. ``docs/models.md`` has a row for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from tests.evaluate import tiny

THINK = ("<think>", "</think>")
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
)
OFF = "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n"
DEEPSEEK = (
    "{% if not thinking is defined %}{% set thinking = false %}{% endif %}"
    "{% for message in messages %}{% if message.role == 'user' %}<｜User｜>{% endif %}{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜>"
)
GLM = (
    "[gMASK]<sop>{% for message in messages %}<|{{ message.role }}|>\n"
    "{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>\n{% endif %}{{ message.content }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>"
)


@dataclass(frozen=True)
class Family:
    """A row of the table."""

    chat_template: str
    tokens: tuple[str, ...]
    """That the vocabulary has for it."""
    style: str | dict[str, Any]
    """What an experiment gives as `template`."""
    ends: str
    """How the prompt ends, from the role on."""
    says: str
    """How the model goes on after thinking `Hm.`, to the end of its answer 4."""
    auto: bool = True
    """Whether ``auto`` finds the same."""
    switches: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None
    off: str | None = None
    """What a sweep without the switches is told to set, where thinking is off then."""

    def tokenizer(self) -> PreTrainedTokenizerFast:
        fast = tiny.tokenizer(["<|im_start|>", "<|im_end|>", "<|pad|>"])
        fast.add_tokens([AddedToken(token, special=True, normalized=False) for token in self.tokens])
        fast.chat_template = self.chat_template
        return fast


FAMILIES = {
    "s1, s1.1": Family(
        CHATML + "{% endif %}",
        (),
        "s1",
        "<|im_start|>assistant\n<|im_start|>think",
        "\nHm.\n<|im_start|>answer\n4",
        auto=False,
    ),
    "Qwen3": Family(
        CHATML + OFF + "{% endif %}{% endif %}",
        THINK,
        "qwen3",
        "<|im_start|>assistant\n<think>\n",
        "Hm.\n</think>\n\n4",
    ),
    "QwQ, Qwen3-2507 Thinking, Qwen3-Next Thinking": Family(
        CHATML + "<think>\n{% endif %}", THINK, "qwen3", "<|im_start|>assistant\n<think>\n", "Hm.\n</think>\n\n4"
    ),
    "Qwen3.5, Qwen3.6": Family(
        CHATML + OFF + "{% else %}<think>\n{% endif %}{% endif %}",
        THINK,
        "qwen3",
        "<|im_start|>assistant\n<think>\n",
        "Hm.\n</think>\n\n4",
    ),
    "Qwen3.5 small": Family(
        CHATML + "{% if enable_thinking is defined and enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n"
        "{% endif %}{% endif %}",
        THINK,
        "qwen3",
        "<|im_start|>assistant\n<think>\n",
        "Hm.\n</think>\n\n4",
        switches={"enable_thinking": True},
        off="enable_thinking: true",
    ),
    "gpt-oss": Family(
        "<|start|>system<|message|>Current date: {{ strftime_now('%Y-%m-%d') }}\n"
        "Reasoning: {{ reasoning_effort | default('medium') }}<|end|>"
        "{% for message in messages %}<|start|>{{ 'developer' if message.role == 'system' else message.role }}"
        "<|message|>{{ message.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}",
        ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>"),
        "gpt-oss",
        "<|start|>assistant<|channel|>analysis<|message|>",
        "Hm.<|end|><|start|>assistant<|channel|>final<|message|>4",
        switches={"reasoning_effort": "high"},
        system="Be brief.",
    ),
    "DeepSeek-R1": Family(
        DEEPSEEK.partition("{% endif %}")[2] + "<think>\n{% endif %}",
        ("<｜User｜>", "<｜Assistant｜>", *THINK),
        "deepseek-r1",
        "<｜Assistant｜><think>\n",
        "Hm.\n</think>\n\n4",
    ),
    "DeepSeek-V3.1": Family(
        DEEPSEEK + "{{ '<think>' if thinking else '</think>' }}{% endif %}",
        ("<｜User｜>", "<｜Assistant｜>", *THINK),
        "think",
        "<｜Assistant｜><think>",
        "Hm.</think>4",
        switches={"thinking": True},
        off="thinking: true",
    ),
    "GLM-4.5, GLM-4.6": Family(
        GLM + "{% if enable_thinking is defined and not enable_thinking %}\n<think></think>{% endif %}{% endif %}",
        ("[gMASK]", "<sop>", "<|user|>", "<|assistant|>", *THINK),
        "glm",
        "<|assistant|>\n<think>",
        "Hm.</think>\n4",
    ),
    "GLM-4.7": Family(
        GLM.replace("\n{% if message.reasoning", "{% if message.reasoning")
        + "{{ '</think>' if (enable_thinking is defined and not enable_thinking) else '<think>' }}{% endif %}",
        ("[gMASK]", "<sop>", "<|user|>", "<|assistant|>", *THINK),
        "glm",
        "<|assistant|><think>",
        "Hm.</think>4",
    ),
    "Gemma 4": Family(
        "{% if enable_thinking is defined and enable_thinking %}<|turn>system\n<|think|><turn|>\n{% endif %}"
        "{% for message in messages %}<|turn>{{ message.role }}\n{{ message.content }}<turn|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|turn>model\n"
        "{% if not (enable_thinking is defined and enable_thinking) %}<|channel>thought\n<channel|>{% endif %}"
        "{% endif %}",
        ("<|turn>", "<turn|>", "<|think|>", "<|channel>", "<channel|>"),
        "gemma4",
        "<|turn>model\n<|channel>thought\n",
        "Hm.\n<channel|>4",
        switches={"enable_thinking": True},
        off="enable_thinking: true",
    ),
    "Magistral": Family(
        "<s>[SYSTEM_PROMPT]First draft your thinking. Today is {{ strftime_now('%Y-%m-%d') }}.[/SYSTEM_PROMPT]"
        "{% for message in messages %}{% if message.role == 'user' %}[INST]{{ message.content }}[/INST]{% endif %}"
        "{% endfor %}",
        ("<s>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[INST]", "[/INST]", "[THINK]", "[/THINK]"),
        "magistral",
        "[/INST][THINK]",
        "Hm.[/THINK]4",
    ),
    "Nemotron Nano v2, Nemotron 3": Family(
        CHATML
        + "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% else %}<think>\n"
        + "{% endif %}{% endif %}",
        THINK,
        "qwen3",
        "<|im_start|>assistant\n<think>\n",
        "Hm.\n</think>\n4",
    ),
    "Llama-Nemotron": Family(
        "{% for message in messages %}<|header|>{{ message.role }}\n\n"
        "{{ message.content.split('</think>')[-1] if message.role == 'assistant' else message.content }}<|eot|>"
        "{% endfor %}{% if add_generation_prompt %}<|header|>assistant\n\n{% endif %}",
        ("<|header|>", "<|eot|>"),
        "plain-think",
        "<|header|>assistant\n\n<think>",
        "\nHm.\n</think>\n\n4",
        system="detailed thinking on",
    ),
    "MiniMax M2": Family(
        "{% for message in messages %}]~b]{{ message.role }}\n{{ message.content }}[e~[\n{% endfor %}"
        "{% if add_generation_prompt %}]~b]ai\n<think>\n{% endif %}",
        ("]~b]", "[e~[", *THINK),
        "qwen3",
        "]~b]ai\n<think>\n",
        "Hm.\n</think>\n\n4",
    ),
    "Kimi K2 Thinking": Family(
        "{% for message in messages %}<|im_{{ message.role }}|>{{ message.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_assistant|>assistant<|im_middle|>{% endif %}",
        ("<|im_user|>", "<|im_assistant|>", "<|im_middle|>", *THINK),
        "think",
        "<|im_middle|><think>",
        "Hm.</think>4",
    ),
    "Kimi K3": Family(
        "{% for message in messages %}<|open|>{{ message.role }}<|sep|>{{ message.content }}<|close|>{{ message.role }}"
        "<|sep|>{% endfor %}{% if add_generation_prompt %}<|open|>assistant<|sep|>{% endif %}",
        ("<|open|>", "<|close|>", "<|sep|>"),
        {"open": "<|open|>think<|sep|>", "close": "<|close|>think<|sep|>"},
        "<|open|>assistant<|sep|><|open|>think<|sep|>",
        "Hm.<|close|>think<|sep|>4",
        auto=False,
    ),
    "OLMo 3 Think": Family(
        CHATML + "<think>{% endif %}",
        (),
        "plain-think",
        "<|im_start|>assistant\n<think>",
        "Hm.\n</think>\n4",
    ),
    "SmolLM3": Family(
        "{% set thinks = enable_thinking | default(true) %}<|im_start|>system\nToday: {{ strftime_now('%d %B %Y') }}\n"
        "<|im_end|>\n" + CHATML + "{% if not thinks %}<think>\n\n</think>\n{% endif %}{% endif %}",
        THINK,
        "qwen3",
        "<|im_start|>assistant\n<think>\n",
        "Hm.\n</think>\n4",
    ),
    "Hunyuan-A13B": Family(
        "{% for message in messages %}<|startoftext|>{{ message.content }}<|extra_0|>{% endfor %}"
        "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n<answer>\n{% endif %}",
        ("<|startoftext|>", "<|extra_0|>"),
        "hunyuan",
        "<|extra_0|><think>\n",
        "Hm.\n</think>\n<answer>\n4\n</answer>",
    ),
    "Seed-OSS": Family(
        "{% for message in messages %}<seed:bos>{{ message.role }}\n{{ message.content }}<seed:eos>{% endfor %}"
        "{% if add_generation_prompt %}<seed:bos>assistant\n{% endif %}",
        ("<seed:bos>", "<seed:eos>", "<seed:think>", "</seed:think>"),
        {"open": "<seed:think>", "close": "</seed:think>"},
        "<seed:bos>assistant\n<seed:think>",
        "Hm.</seed:think>4",
    ),
}
