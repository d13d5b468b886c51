"""Tests a trace in an object store, which every worker reads by its URL."""

import subprocess

import boto3
import pytest
from cluster import Cluster, read_files
from moto.server import ThreadedMotoServer

REGION = "us-east-1"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": REGION, "AWS_ALLOW_HTTP": "true"}


@pytest.fixture
def store(monkeypatch):
    """A store on loopback; the environment of later processes contains its address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    yield boto3.client("s3", region_name=REGION)
    server.stop()


def upload(store, trace) -> str:
    store.create_bucket(Bucket="bucket")
    for name, content in read_files(trace).items():
        store.put_object(Bucket="bucket", Key=f"some/trace/{name}", Body=content)
    return "s3://bucket/some/trace"


def test_a_trace_in_a_store(store, trace, analyzer, replay, single, tmp_path):
    url = upload(store, trace)
    shown = subprocess.run([analyzer, "inspect", url], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    with Cluster(tmp_path, workers=2) as cluster:
        replay(cluster, trace=url).check_success()
    # The results equal those of the trace in a folder.
    assert read_files(tmp_path / "out") == single()
