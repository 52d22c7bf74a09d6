"""A UBI cluster in memory that answers what `trainer.feedback` asks, and goes away when told."""

from typing import Any

from neuralrank.errors import NotFound, Unavailable

Row = dict[str, Any]
START = 1_767_225_600_000  # 2026-01-01T00:00:00Z


class Cluster:
    """Stands in for `opensearchpy.OpenSearch`. Documents: (id, ms, source)."""

    def __init__(self, queries: list[Row] | None = None, events: list[Row] | None = None) -> None:
        self.documents = {"ubi_queries": queries or [], "ubi_events": events or []}
        self.items = {"a", "b"}
        self.down = 0  # searches that fail from now on; -1: all
        self.gone = 0  # searches that find no point in time
        self.interrupt_after = -1  # searches until somebody presses Ctrl-C
        self.points: dict[str, list[Row]] = {}
        self.searches = 0
        self.types = {"timestamp": "date"}
        self.indices = self

    def exists(self, index: str) -> bool:
        return index == "shop"

    def field_caps(self, index: str, params: Row) -> Row:
        self._documents(index)
        names = params["fields"].split(",")
        return {"fields": {name: {self.types[name]: {"type": self.types[name]}} for name in names}}

    def count(self, index: str, body: Row) -> Row:
        count = len(self._found(self._documents(index), body))
        return {"count": count, "_shards": {"total": 1, "failed": 0}}

    def create_pit(self, index: str, params: Row) -> Row:
        assert params["keep_alive"]
        if self.down:
            self.down -= 1
            raise Unavailable("OpenSearch is away.")
        name = f"point-{self.searches}-{len(self.points)}"
        self.points[name] = list(self._documents(index))
        return {"pit_id": name}

    def delete_pit(self, body: Row) -> None:
        for name in body["pit_id"]:
            self.points.pop(name, None)

    def search(self, body: Row, index: str | None = None, params: Row | None = None) -> Row:
        del params
        if "aggs" in body:
            rows = self._documents(index or "")
            timed = body["aggs"]["timed"]
            bounds = timed["filter"]["range"]["timestamp"]
            times = [
                row["sort"][0] for row in rows if bounds["gte"] <= row["sort"][0] <= bounds["lte"]
            ]
            ends = {name: {"value": of(times, default=None)}
                    for name, of in (("first", min), ("last", max))}  # fmt: skip
            values = {"timed": {"doc_count": len(times), **ends}}
            return {"hits": {"total": {"value": len(rows)}}, "aggregations": values}
        if index == "shop":
            asked = body["query"]["ids"]["values"]
            return {"hits": {"hits": [{"_id": name} for name in asked if name in self.items]}}
        if self.interrupt_after == 0:
            raise KeyboardInterrupt
        self.interrupt_after -= 1
        if self.down:
            self.down -= 1
            raise Unavailable("OpenSearch is away.")
        if self.gone:
            self.gone -= 1
            raise NotFound("No search context found.")
        self.searches += 1
        rows = self._found(self.points[body["pit"]["id"]], body)
        after = body.get("search_after", [-1, -1])
        rows = [row for row in rows if row["sort"] > after][: body["size"]]
        return {"hits": {"hits": rows}}

    def _documents(self, index: str) -> list[Row]:
        if index not in self.documents:
            raise NotFound(f"no such index [{index}]")
        return sorted(self.documents[index], key=lambda row: row["sort"])

    def _found(self, rows: list[Row], body: Row) -> list[Row]:
        (bounds,) = (part["range"]["timestamp"] for part in body["query"]["bool"]["filter"])
        return [row for row in rows if bounds["gte"] <= row["sort"][0] < bounds["lt"]]


_numbers = iter(range(10**9))


def document(at: float, source: Row, name: str = "") -> Row:
    """A hit; `at` in seconds after START."""
    number = next(_numbers)
    time = START + round(at * 1000)
    return {"_id": name or f"d{number}", "sort": [time, number], "_source": source}


def query(at: float, name: str, user: str = "u", text: str = "kettle", **more: Any) -> Row:
    return document(at, {"query_id": name, "client_id": user, "user_query": text} | more)


def event(at: float, action: str, item: str, user: str = "u", query: str = "q", place: int = 1,
          **more: Any) -> Row:  # fmt: skip
    attributes = {"object": {"object_id": item}, "position": {"ordinal": place}}
    source = {"action_name": action, "client_id": user, "query_id": query}
    return document(at, source | {"event_attributes": attributes} | more)
