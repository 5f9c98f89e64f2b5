"""Reads `weft top --once -o json` and checks that the shop does what its YAML says. Exits 1 where it does not."""

import json
import sys

mesh = json.load(sys.stdin)
failures = []


def edge(source, destination, backend=None):
    """All traffic from one workload to one service, summed over backends unless one is named. Calls that came before the
    service had its first ready pod were never sent anywhere (`unsent`): they are no failure of the service."""
    total = {"requests": 0, "failed": 0, "refused": 0, "retries": 0, "mtls": 0, "unsent": 0}
    for row in mesh["edges"]:
        if row["from"] == source and row["to"] == destination and backend in (None, row["backend"]):
            for field in total:
                total[field] += row[field]
    total["failed"] -= total["unsent"]
    return total


def pods(prefix):
    return {row["pod"]: row for row in mesh["pods"] if row["pod"].startswith(prefix)}


def expect(holds, sentence):
    print(("ok      " if holds else "FAILED  ") + sentence)
    if not holds:
        failures.append(sentence)


shopper = "shop/shopper"

web = edge(shopper, "shop/web")
expect(web["requests"] > 20 and web["failed"] == 0, f"web answers: {web['requests']} requests, {web['failed']} failed")
serving = [pod for pod, row in pods("shop/web-").items() if row["requests"] > 0]
expect(len(serving) == 3, f"all three replicas of web serve: {len(serving)} do")

catalog = edge(shopper, "shop/catalog")
canary = edge(shopper, "shop/catalog", "shop/catalog-v2")
share = canary["requests"] / max(catalog["requests"], 1)
# Four standard deviations of a split of one in ten: a right split fails once in 16,000 runs.
tolerance = 4 * (0.09 / max(catalog["requests"], 1)) ** 0.5
expect(abs(share - 0.1) <= tolerance, f"the canary gets a tenth: {share:.1%} of {catalog['requests']}")

inventory = edge(shopper, "shop/inventory")
failing = sum(row["failed"] for row in pods("shop/inventory-").values())
expect(failing > 0 and inventory["retries"] > 0, f"inventory is flaky: {failing} failures, {inventory['retries']} retries")
expect(inventory["failed"] <= 0.01 * inventory["requests"], f"and its callers hardly notice: {inventory['failed']} of {inventory['requests']} failed")

payments = edge(shopper, "shop/payments")
broken = sum(row["requests"] for row in pods("shop/payments-broken-").values())
expect(broken > 0, f"the failing replica of payments was tried: {broken} requests")
expect(broken <= max(12, 0.15 * payments["requests"]), f"and taken out of balancing: {broken} of {payments['requests']}")

refused = edge(shopper, "shop/ledger")
asked = refused["requests"] - refused["unsent"]
expect(asked > 0 and refused["refused"] == asked, f"the ledger refuses the shopper: {refused['refused']} of {asked}")
allowed = edge("shop/settlement", "shop/ledger")
expect(allowed["requests"] > 0 and allowed["refused"] + allowed["failed"] == 0, f"and lets payments in: {allowed['requests']} requests")

stable = edge(shopper, "shop/reviews", "shop/reviews")
beta = edge(shopper, "shop/reviews", "shop/reviews-beta")
expect(stable["requests"] > 0 and abs(stable["requests"] - beta["requests"]) <= 2, f"the header chooses: {stable['requests']} stable, {beta['requests']} beta")

everything = [row for row in mesh["edges"]]
total = sum(row["requests"] - row["unsent"] for row in everything)
plaintext = total - sum(row["mtls"] for row in everything)
expect(total > 0 and plaintext == 0, f"every call is mutual TLS: {total - plaintext} of {total}")

sys.exit(1 if failures else 0)
