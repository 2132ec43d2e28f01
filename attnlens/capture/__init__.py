"""What is read from a model's attention and what is changed in it, beside the computation the model already does.

Here belongs the one function that stands between a model and its attention implementation, the exact statistics made
from queries, keys and mask, and the edits made through the same function. Only this room knows transformers' attention
interface. It knows no model family: it is given the attention modules to watch. Names of spans, files and figures
belong elsewhere; what leaves this room is tensors.
"""
