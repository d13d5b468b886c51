#!/usr/bin/env python3
"""The former name of `train.py TASK-exact-SEED`, for loops that were started with it."""

import argparse
from pathlib import Path

import torch
from designs import EXACT, Run
from train import lock_folder, train_run

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("task")
parser.add_argument("--seed", type=int, required=True)
parser.add_argument("--out", type=Path, default=Path("accuracy"))
arguments = parser.parse_args()
torch.set_num_threads(1)
run = Run(arguments.task, EXACT, arguments.seed)
lock = lock_folder(arguments.out / run.name)
print(train_run(run, arguments.out))
