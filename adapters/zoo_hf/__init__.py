"""Hugging Face backbones: published checkpoints, hub ids and local folders, run by zoo_torch's engine.

zoo_torch comes first: its guard must run before anything here imports torch.
"""

import zoo_torch as zoo_torch
