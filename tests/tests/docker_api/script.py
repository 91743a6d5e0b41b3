"""script.py PREFIX IMAGE: what programs do with docker-py, on the engine at DOCKER_HOST. Prints what can be
compared between two ways to the same engine."""

import io
import socket
import sys
import tarfile
import time

import docker

prefix, image = sys.argv[1:]
client = docker.from_env(timeout=60)
labels = {"dockctl.test": prefix}
common = {"image": image, "labels": labels, "network_mode": "none"}
name = f"{prefix}-py"


def printed(**what):
    """What a container has printed, read after its end: the engine loses lines to who follows as it ends."""
    made = client.containers.run(detach=True, **{**common, **what})
    made.wait()
    output = made.logs()
    made.remove()
    return output


print("version", client.version()["Version"], client.ping(), client.info()["OSType"])

since = int(time.time())
box = client.containers.run(
    command=["sh", "-c", "echo out; echo err >&2; exec sleep 100000"], detach=True, name=name, init=True, **common
)
print("list", [c.name for c in client.containers.list(filters={"label": f"dockctl.test={prefix}"}) if c.name == name])
print("run", printed(command="echo hello"))
try:
    client.containers.run(command="sh -c 'exit 3'", remove=True, **common)
except docker.errors.ContainerError as error:
    print("exit status", error.exit_status)

print("logs", sorted(box.logs().splitlines()), box.logs(stderr=False), box.logs(stdout=False), len(box.logs(tail=1).splitlines()))
follow = box.logs(stream=True, follow=True)
print("follow", sorted([next(follow), next(follow)]))
follow.close()

print("exec", box.exec_run("sh -c 'echo o; echo e >&2; exit 5'", demux=True))
print("exec stream", b"".join(box.exec_run("head -c 3000000 /dev/zero", stream=True).output).count(0))
exec_id = client.api.exec_create(box.id, ["sh", "-c", "cat; echo end"], stdin=True)["Id"]
stream = client.api.exec_start(exec_id, socket=True)
stream._sock.sendall(b"typed\n" * 3)
stream._sock.shutdown(socket.SHUT_WR)
answer = b""
while piece := stream._sock.recv(65536):
    answer += piece
print("half-close", answer.count(b"typed\n"), answer.endswith(b"end\n"), client.api.exec_inspect(exec_id)["ExitCode"])

packed = io.BytesIO()
with tarfile.open(fileobj=packed, mode="w") as archive:
    for member, data in [("small", b"small"), ("large", bytes(5_000_000))]:
        info = tarfile.TarInfo(member)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
print("put", box.put_archive("/", packed.getvalue()))
pieces, stat = box.get_archive("/large")
back = tarfile.open(fileobj=io.BytesIO(b"".join(pieces)))
print("get", stat["name"], stat["size"], back.extractfile("large").read() == bytes(5_000_000))
try:
    box.get_archive("/nowhere")
except docker.errors.NotFound as error:
    print("not found", error.status_code)

sample = box.stats(stream=False)
print("stats", sample["name"], sample["pids_stats"]["current"])
live = client.api.stats(box.id, stream=True, decode=True)
print("stats stream", [next(live)["name"], next(live)["name"]])
live.close()

context = io.BytesIO()
with tarfile.open(fileobj=context, mode="w") as archive:
    for member, data in [("Dockerfile", f"FROM {image}\nCOPY f /f\n".encode()), ("f", b"in the image")]:
        info = tarfile.TarInfo(member)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
context.seek(0)
built, log = client.images.build(
    fileobj=context, custom_context=True, tag=f"{prefix}-py-built", labels=labels, nocache=True, rm=True
)
print("build", built.tags, [line["stream"] for line in log if "Step" in line.get("stream", "")])
print("built", printed(image=built.tags[0], command="cat /f"))
print("saved", sum(map(len, built.save())) > 1_000_000)
client.images.remove(built.tags[0])

box.remove(force=True)
events = client.events(since=since, until=int(time.time()) + 1, filters={"container": name}, decode=True)
print("events", [event["Action"] for event in events if not event["Action"].startswith("exec")])
