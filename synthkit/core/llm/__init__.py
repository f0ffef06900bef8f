"""Chat with a teacher, or with a student that is served: replies typed, kept, and paid for within a budget.

Replies are cached by where they came from, model, weights, messages, options, sample and seed, so a resumed run pays
for nothing twice. The key is read from the environment and appears nowhere else: not in records, nor in what errors
say.
"""

from synthkit.core.llm.client import ChatClient, Messages
from synthkit.core.llm.completions import Reply, write_tool_call
from synthkit.core.llm.forms import describe_form, write_schema
from synthkit.core.llm.prices import check_prices
from synthkit.core.llm.sending import MeteredSender, Sender

__all__ = ["ChatClient", "MeteredSender", "Messages", "Reply", "Sender", "check_prices", "describe_form",
           "write_schema", "write_tool_call"]
