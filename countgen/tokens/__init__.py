"""Count tokens: trained vectors that stand for a number in a prompt, stored as small safetensors files."""

from countgen.tokens.file import CountToken, load_token, save_token
from countgen.tokens.library import available_tokens, find_token

__all__ = ["CountToken", "available_tokens", "find_token", "load_token", "save_token"]
