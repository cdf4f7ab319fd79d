"""A local HTTP server that plays OpenCage, Nominatim and Photon: their documented answers over real
sockets.

`places` maps a query (first words of it suffice) to a result; unknown queries get the service's
empty answer. `trouble` is a function of (path, query, key) that may return (status, headers, body)
to be sent instead, or hang.

As a program (`python -m tests.support.geocoder_server PORT`) it is a process that can be killed: it
knows the numbered villages of Bavaria, says "ready", and each line on its standard input is the
TROUBLES it is in from then on."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from urllib.parse import parse_qs, urlsplit

from tests.support.played import Answering, PlayedServer, playing

# name: (lat, lon, kind, region, country, country code)
MUNICH = ("Munich", 48.137, 11.575, "city", "Bavaria", "Germany", "de")
BAVARIA = ("Bavaria", 48.95, 11.4, "state", "Bavaria", "Germany", "de")
GERMANY = ("Germany", 51.16, 10.45, "country", "", "Germany", "de")
PLACES = {"munich, bavaria": MUNICH, "bavaria, germany": BAVARIA, "germany": GERMANY}


def opencage(found):
    results = []
    if found:
        name, lat, lon, kind, region, country, code = found
        parts = {
            "_category": "place",
            "_type": kind,
            kind: name,
            "country": country,
            "country_code": code,
        }
        if region:
            parts["state"] = region
        formatted = ", ".join(dict.fromkeys((name, region, country)))
        geometry = {"lat": lat, "lng": lon}
        results = [
            {"components": parts, "confidence": 1, "formatted": formatted, "geometry": geometry}
        ]
    status = {"code": 200, "message": "OK"}
    rate = {"limit": 2500, "remaining": 2499, "reset": int(time.time()) + 3600}
    return {
        "documentation": "…",
        "rate": rate,
        "results": results,
        "status": status,
        "total_results": len(results),
    }


def nominatim(found):
    if not found:
        return []
    name, lat, lon, kind, region, country, code = found
    address = {
        kind: name,
        "state": region,
        "ISO3166-2-lvl4": "DE-BY",
        "country": country,
        "country_code": code,
    }
    display = ", ".join(dict.fromkeys(part for part in (name, region, country) if part))
    row = {
        "place_id": 1,
        "osm_type": "relation",
        "osm_id": 2,
        "lat": str(lat),
        "lon": str(lon),
        "type": "administrative",
    }
    row |= {
        "class": "boundary",
        "addresstype": kind,
        "name": name,
        "display_name": display,
        "importance": 0.7,
    }
    return [row | {"address": {key: value for key, value in address.items() if value}}]


def photon(found):
    features = []
    if found:
        name, lat, lon, kind, region, country, code = found
        properties = {
            "osm_type": "R",
            "osm_id": 2,
            "osm_key": "place",
            "osm_value": kind,
            "type": kind,
            "name": name,
        }
        properties |= {"country": country, "countrycode": code.upper()} | (
            {"state": region} if region else {}
        )
        geometry = {"type": "Point", "coordinates": [lon, lat]}
        features = [{"type": "Feature", "geometry": geometry, "properties": properties}]
    return {"type": "FeatureCollection", "features": features}


def village(query):
    """ "Weilerx7, Bavaria, Germany" lies 7 hundredths of a degree north of 48."""
    found = re.match(r"(weiler[a-z]*(\d+)), bavaria", query, re.IGNORECASE)
    return found and (
        found[1],
        48.0 + int(found[2]) / 100,
        11.0,
        "village",
        "Bavaria",
        "Germany",
        "de",
    )


SERVICES = {"/geocode/v1/json": opencage, "/search": nominatim, "/api": photon}


class GeocoderServer(PlayedServer):
    def __init__(self, places=PLACES, trouble=None, port=0, host="127.0.0.1"):
        super().__init__((host, port), _Handler)
        self.places, self.trouble = places, trouble
        self.requests = []  # (seconds, path, query, key, user agent)
        self.url = f"http://{host}:{self.server_address[1]}"

    def asked(self):
        return [query for _, _, query, _, _ in self.requests]


class _Handler(Answering):
    def do_GET(self):
        parts = urlsplit(self.path)
        fields = {name: values[0] for name, values in parse_qs(parts.query).items()}
        query, key, server = fields.get("q", ""), fields.get("key", ""), self.server
        server.requests.append(
            (time.monotonic(), parts.path, query, key, self.headers["User-Agent"])
        )
        sent = server.trouble(parts.path, query, key) if server.trouble else None
        if sent is None:
            found = village(query) or next(
                (row for name, row in server.places.items() if query.casefold().startswith(name)),
                None,
            )
            sent = 200, {}, json.dumps(SERVICES[parts.path](found))
        self.answer(*sent)


def serving(places=PLACES, trouble=None, host="127.0.0.1"):
    return playing(GeocoderServer(places, trouble, host=host))


SLOW_S = 0.3
TROUBLES = {
    "": lambda n: None,
    "slow": lambda n: time.sleep(SLOW_S),
    "stuck": lambda n: (
        sys.stdout.write("asked\n") and ("hang", {}, "")
    ),  # one write: threads do not mix their lines
    "flapping": lambda n: (503, {}, "") if n % 2 else None,
    "garbage": lambda n: (200, {}, '{"features": [{"geometry": 5}'),
}


def main(port):
    sys.stdout.reconfigure(line_buffering=True)
    now = [TROUBLES[""]]
    server = GeocoderServer(port=port)
    server.trouble = lambda *_: now[0](len(server.requests))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready")
    for line in sys.stdin:
        now[0] = TROUBLES[line.strip()]
        print("ready")


if __name__ == "__main__":
    main(int(sys.argv[1]))
