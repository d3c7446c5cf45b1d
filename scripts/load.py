"""Open-loop load on a web process: so many requests a second, whatever the answers take; prints p50/p95/p99.

Each request has an intended moment; its latency counts from that moment, also when all connections were still
busy then. So a server that stalls for a second shows in every request that should have been sent meanwhile.

    python scripts/load.py --url http://127.0.0.1:9090 --home .maskloop --project 1 --tasks 1,2,3 --seconds 60
"""

import argparse
import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from maskloop_backend.credentials import load_credentials


@dataclass
class Endpoint:
    """One kind of request and what came of it. `latencies` in seconds."""

    name: str
    method: str
    path: str
    bodies: list[bytes | None]
    latencies: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Count, failures, and latencies in milliseconds."""
        figures = "  ".join(f"{name} {self.percentile(share) * 1000:8.1f} ms" for name, share in SHARES.items())
        return f"{self.name:10} {len(self.latencies):6} requests  {len(self.failures):3} failed  {figures}"

    def percentile(self, share: float) -> float:
        """The latency that this share of the requests does not exceed; seconds."""
        ordered = sorted(self.latencies) or [float("nan")]
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "max": 1.0}


async def load(
    url: str, header: str, endpoints: list[Endpoint], *, rate: float, connections: int, seconds: float
) -> None:
    """Send `rate` requests a second in turn to the endpoints for `seconds`, on so many connections."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    headers = {"Authorization": header, "Content-Type": "application/json"}
    free = asyncio.Semaphore(connections)
    async with httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=120, trust_env=False) as client:

        async def send(endpoint: Endpoint, number: int, due: float) -> None:
            body = endpoint.bodies[number % len(endpoint.bodies)]
            async with free:
                try:
                    answer = await client.request(endpoint.method, endpoint.path, content=body)
                    if answer.status_code != 200:
                        endpoint.failures.append(f"status {answer.status_code}: {answer.text[:200]}")
                    elif endpoint.path == "/predict" and b"maskloop-un" in answer.content:
                        endpoint.failures.append("a task got an empty result")
                except httpx.HTTPError as error:
                    endpoint.failures.append(f"{type(error).__name__}: {error}")
            endpoint.latencies.append(time.perf_counter() - due)

        start = time.perf_counter() + 0.1
        async with asyncio.TaskGroup() as group:
            for number in range(int(rate * seconds)):
                due = start + number / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                endpoint = endpoints[number % len(endpoints)]
                group.create_task(send(endpoint, number // len(endpoints), due))


def make_endpoints(names: list[str], project: int, tasks: list[int]) -> list[Endpoint]:
    """The requests as Label Studio sends them: one task a /predict, webhooks with an annotation."""

    def encode(body: object) -> bytes:
        return json.dumps(body).encode()

    predicts = [encode({"tasks": [{"id": task, "data": {}}], "project": f"{project}.1"}) for task in tasks]
    annotation = {"id": 1, "result": [{"value": {"rle": [255, 0, 17] * 2000}}]}
    hook = encode({"action": "ANNOTATION_UPDATED", "annotation": annotation, "project": {"id": project}})
    known = {
        "predict": Endpoint("/predict", "POST", "/predict", list(predicts)),
        "health": Endpoint("/health", "GET", "/health", [None]),
        "webhook": Endpoint("/webhook", "POST", "/webhook", [hook]),
        "setup": Endpoint("/setup", "POST", "/setup", [encode({"project": f"{project}.1"})]),
        "metrics": Endpoint("/metrics", "GET", "/metrics", [None]),
    }
    return [known[name] for name in names]


def main() -> int:
    """Run the load; exit code 1 when a request failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:9090", help="address of the web process")
    parser.add_argument("--home", type=Path, required=True, help="home folder, for the credentials")
    parser.add_argument("--project", type=int, default=1, help="Label Studio's id of the project")
    parser.add_argument("--tasks", default="1", help="ids of tasks to predict, with commas; `1-20` is a range")
    parser.add_argument("--endpoints", default="predict,health,webhook", help="of predict,health,webhook,setup,metrics")
    parser.add_argument("--rate", type=float, default=20.0, help="requests per second, all endpoints together")
    parser.add_argument("--connections", type=int, default=16, help="connections at most")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    options = parser.parse_args()
    tasks: list[int] = []
    for part in options.tasks.split(","):
        first, _, last = part.partition("-")
        tasks += range(int(first), int(last or first) + 1)
    endpoints = make_endpoints(options.endpoints.split(","), options.project, tasks)
    header = load_credentials(options.home).header
    asyncio.run(
        load(
            options.url,
            header,
            endpoints,
            rate=options.rate,
            connections=options.connections,
            seconds=options.seconds,
        )
    )
    if options.json:
        report = {
            e.name: {"requests": len(e.latencies), "failures": len(e.failures)}
            | {name: round(e.percentile(share) * 1000, 1) for name, share in SHARES.items()}
            for e in endpoints
        }
        print(json.dumps(report, indent=2))
    else:
        print(f"{options.rate:g} requests/s on {options.connections} connections for {options.seconds:g} s, open loop")
        for endpoint in endpoints:
            print(endpoint.line())
    for endpoint in endpoints:
        for failure in sorted(set(endpoint.failures))[:3]:
            print(f"{endpoint.name}: {failure}", file=sys.stderr)
    return 1 if any(endpoint.failures for endpoint in endpoints) else 0


if __name__ == "__main__":
    sys.exit(main())
