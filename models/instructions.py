"""Instructions in front of queries: what is looked for, said in words, query by query if needed.

Su et al., One Embedder, Any Task: Instruction-Finetuned Text Embeddings, ACL Findings 2023.
Asai et al., Task-aware Retrieval with Instructions, ACL Findings 2023.
Weller et al., Promptriever: Instruction-Trained Retrievers Can Be Prompted Like Language Models,
ICLR 2025.
"""

from collections.abc import Sequence

from ..errors import UsageError

PLACE = "{instruction}"
INSTRUCT = "Instruct: {instruction}\nQuery: "
"""How E5, GTE and Qwen3 write it; used where a prompt has no place of its own for one."""


def prompt_with(prompt: str, instruction: str) -> str:
    """The prompt of a query: its own, or with the instruction in its place.

    Without an instruction, a prompt that has a place for one is left out.
    """
    if not instruction:
        return "" if PLACE in prompt else prompt
    return (prompt if PLACE in prompt else INSTRUCT).replace(PLACE, instruction)


def one_each(instruction: str, instructions: Sequence[str] | None, queries: int) -> list[str]:
    """The instruction of each query: its own, or the one of all. An own "" is none at all."""
    if instructions is None:
        return [instruction] * queries
    if isinstance(instructions, str) or len(instructions) != queries:
        count = "a string" if isinstance(instructions, str) else f"{len(instructions)} of them"
        raise UsageError(
            f"instructions={count} for {queries} queries", remedy="Give a list of one a query"
        )
    return list(instructions)
