"""Token ids in, token ids out: continuous batching over paged memory. It knows no text.

`Engine` is the door; `Prompt` and `SamplingParams` go in, `Emitted` and `Ended` (or an error) come
out. The package itself imports nothing, so that reading a type does not load torch.
"""
