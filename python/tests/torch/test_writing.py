"""Writing: a killed capture, a full disk, several ranks; traces of both tracers."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import mercury_lab as mercury
import mercury_lab.torch as mt
import pytest
import torch
from torch import nn

from nets import Decoder, make_net, token_batches, token_loss
from tools import Trace, assert_close, image_batches, train


def run_python(program, *args, **options):
    """Starts a program that can import the tests' helpers."""
    paths = [os.path.dirname(__file__), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, args)], env=environment, **options
    )


def test_a_killed_capture_leaves_a_readable_trace(folder):
    program = """
        import sys, torch, mercury_lab.torch as mt
        from nets import make_net
        from tools import image_batches
        model = make_net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with mt.capture(model, sys.argv[1], optimizer=optimizer, every=1, on_error="raise") as capture:
            for x, y in image_batches(100000, batch=4, size=16):
                torch.nn.functional.cross_entropy(model(x), y).backward()
                capture.log(loss=0.5)
                optimizer.step()
    """
    process = run_python(program, folder, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while not (folder / "manifest.json").exists() or len(Trace(folder).captured) < 3:
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline, "no step was captured within a minute"
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    trace = Trace(folder)
    assert not trace.manifest["complete"]
    last = trace.captured[-1]
    assert trace.captured == list(range(last + 1))
    for layer, kind in trace.files(last):
        assert trace.values(layer, kind, last).isfinite().all()
    assert [row["step"] for row in trace.steps][: last + 1] == trace.captured


@pytest.mark.parametrize(
    "model, batch", [(make_net(), "images"), (Decoder(), "tokens")], ids=["convolutions", "decoder"]
)
def test_a_trace_is_verified_and_replayed(model, batch, folder):
    if batch == "images":
        train(model, image_batches(3, batch=4, size=16), folder, every=1, samples=2, filters=4, on_error="raise")
    else:
        train(model, token_batches(3), folder, loss_fn=token_loss, every=1, samples=2, on_error="raise")
    assert "as they were written" in str(mercury.verify(folder))
    results = mercury.replay(folder, progress=False)
    rows = results.layers.rows()
    assert {row["layer"] for row in rows} == set(Trace(folder).layers)
    assert {row["pass"] for row in rows} == {"forward", "input-grad", "weight-grad"}


FULL = """
    import resource, signal, sys, warnings, torch, mercury_lab.torch as mt
    from mercury_lab import MercuryError
    from torch import nn
    from tools import sum_weighted
    folder, on_error = sys.argv[1:]
    # A write beyond the limit fails as on a full disk, instead of ending the process.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    model = nn.Sequential(nn.Linear(400, 200))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    caught, steps = [], 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with mt.capture(model, folder, optimizer=optimizer, every=1, on_error=on_error) as capture:
                for steps in range(1, 7):
                    sum_weighted(model(torch.randn(3, 400)))
                    optimizer.step()
                    if steps == 2:
                        capture.flush()
                        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
                    elif steps == 4:
                        # The writer's threads have met the limit by now.
                        capture.flush()
        except MercuryError as error:
            print("raised", error)
    print(steps, [str(warning.message) for warning in caught])
"""


@pytest.mark.parametrize("on_error", ["warn", "raise"])
def test_a_full_disk(on_error, folder):
    process = run_python(FULL, folder, on_error, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "weight.parquet" in output, output
    assert output.startswith("raised") if on_error == "raise" else output.startswith("6 ['capture: ")
    trace = Trace(folder)
    assert trace.captured == [0, 1]
    for layer, kind in trace.files(1):
        assert trace.values(layer, kind, 1).isfinite().all()


def test_a_failing_loop_keeps_its_captured_steps(folder):
    model = make_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ZeroDivisionError), mt.capture(model, folder, optimizer=optimizer, every=2):
        for step, (x, y) in enumerate(image_batches(9, batch=4, size=16)):
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            1 // (4 - step)
    trace = Trace(folder)
    assert trace.captured == [0, 2, 4]
    assert not trace.manifest["complete"]


RANK = """
    import os, sys, torch, mercury_lab.torch as mt
    import torch.distributed as dist
    from tools import sum_weighted
    rank, folder, wrapper = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    dist.init_process_group("gloo", init_method=f"file://{folder}-rendezvous", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    if wrapper == "fsdp":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
        mesh = init_device_mesh("cpu", (2,))
        fully_shard(model[0], mesh=mesh)
        run = captured = fully_shard(model, mesh=mesh)
    else:
        run = torch.nn.parallel.DistributedDataParallel(model)
        captured = run if wrapper == "ddp" else model
    optimizer = torch.optim.SGD(run.parameters(), lr=0.0)
    with mt.capture(captured, folder, optimizer=optimizer, verify=True, on_error="raise") as capture:
        torch.manual_seed(10 + rank)
        x = torch.randn(3, 4)
        torch.save(x, f"{folder}-x{rank}")
        sum_weighted(run(x))
        optimizer.step()
    assert len(capture.verify()) == 2
    dist.destroy_process_group()
"""


@pytest.mark.parametrize("wrapper", ["ddp", "inner", "fsdp"])
def test_each_rank_writes_its_own_trace(wrapper, folder):
    """torchrec#4268: under FSDP2, weights are whole only inside the call."""
    ranks = [run_python(RANK, rank, folder, wrapper, stderr=subprocess.PIPE) for rank in range(2)]
    for rank in ranks:
        _, errors = rank.communicate(timeout=120)
        assert rank.returncode == 0, errors.decode()
    for rank in range(2):
        trace = Trace(f"{folder}-rank{rank}")
        assert list(trace.layers) == ["0", "2"]
        assert_close(trace.values("0", "input"), torch.load(f"{folder}-x{rank}"))
        assert trace.values("0", "weight").shape == (8, 4)
        assert ("0", "grad_output") in trace.files(0)
    assert_close(Trace(f"{folder}-rank0").values("2", "weight"), Trace(f"{folder}-rank1").values("2", "weight"))
