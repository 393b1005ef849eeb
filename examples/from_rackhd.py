#!/usr/bin/env python3
"""Moves everything from an IPAM service of RackHD to this one, over the APIs of both:

    python3 from_rackhd.py http://OLD:8000 http://NEW:8000 > ids.tsv

Reads pools, subnets, reservations and leases there, and makes the same here, each address as it is
leased. What it makes is printed as it goes: kind, old id, new id. Every resource also gets a tag with its
old id, `rackhd:OLD_ID`. It changes nothing there. It may be run again, also after it broke off: what has
such a tag is there already.

Needs Python 3.8 and nothing else. Nobody may reserve or release there meanwhile.
"""

import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

ATTEMPTS = 30


def call(method, url, body=None, key=None):
    """The body of the answer. What may be tried again is, as Retry-After says."""
    headers = {"Accept": "application/json"}
    data = None
    if body is not None:
        data = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    if key is not None:
        headers["Idempotency-Key"] = key
    for attempt in range(ATTEMPTS):
        request = urllib.request.Request(url, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            if error.code != 503 or attempt + 1 == ATTEMPTS:
                sys.exit(f"{method} {url}: {error.code}: {text}")
            time.sleep(int(error.headers.get("Retry-After", "1")))
        except (urllib.error.URLError, OSError) as error:
            if attempt + 1 == ATTEMPTS:
                sys.exit(f"{method} {url}: {error}")
            time.sleep(1)


def items(base, path, name):
    """All of a list. The old service has no pages and may answer null for none."""
    query = ""
    while True:
        page = call("GET", f"{base}{path}{query}")
        yield from page.get(name) or []
        if not page.get("next"):
            return
        query = "?" + urllib.parse.urlencode({"cursor": page["next"]})


def described(old):
    """What every resource has, with the id that it had."""
    tags = [*(old.get("tags") or []), f"rackhd:{old['id']}"]
    return {"name": old["name"], "tags": tags, "metadata": old.get("metadata")}


def make(new, path, name, old, body):
    """Makes it, or finds that it is there; answers its id."""
    query = urllib.parse.urlencode({"tag": f"rackhd:{old['id']}"})
    there = call("GET", f"{new}{path}?{query}")[name]
    made = there[0] if there else call("POST", f"{new}{path}", body, f"rackhd-{old['id']}")
    print(name[:-1], old["id"], made["id"], sep="\t", flush=True)
    return made["id"]


def move(old, new):
    for pool in list(items(old, "/pools", "pools")):
        made = make(new, "/pools", "pools", pool, described(pool))
        for subnet in list(items(old, f"/pools/{pool['id']}/subnets", "subnets")):
            move_subnet(old, new, made, subnet)


def move_subnet(old, new, pool, subnet):
    held = []
    for reservation in list(items(old, f"/subnets/{subnet['id']}/reservations", "reservations")):
        leases = list(items(old, f"/reservations/{reservation['id']}/leases", "leases"))
        if leases:
            held.append((reservation, leases))
        else:
            print("no address, left out: reservation", reservation["id"], file=sys.stderr)
    body = {**described(subnet), "start": subnet["start"], "end": subnet["end"]}
    # The old service never leases the last address of a range.
    if all(lease["address"] != subnet["end"] for _, leases in held for lease in leases):
        body["excluded"] = [subnet["end"]]
    made = make(new, f"/pools/{pool}/subnets", "subnets", subnet, body)
    for reservation, leases in held:
        body = {
            **described(reservation),
            "addresses": [lease["address"] for lease in leases],
            "leases": [described(lease) for lease in leases],
        }
        make(new, f"/subnets/{made}/reservations", "reservations", reservation, body)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: from_rackhd.py http://OLD:8000 http://NEW:8000")
    move(sys.argv[1].rstrip("/"), sys.argv[2].rstrip("/"))
