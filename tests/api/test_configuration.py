"""The configuration routes of 0.8, and how they say no."""

import httpx
import pytest

CLARA = {"aeTitle": "COVIDAET", "processorSettings": {"pipeline-covid": "abc"}}
SOURCE = {"aeTitle": "MYPACS", "hostIp": "10.20.30.1"}
DESTINATION = {"name": "PACS/1", "aeTitle": "MYPACSAET", "hostIp": "pacs.example.org", "port": 1104}


@pytest.mark.parametrize(
    ("route", "body", "key"),
    [
        ("claraaetitle", CLARA, "COVIDAET"),
        ("sourceaetitle", SOURCE, "MYPACS"),
        ("destinationaetitle", DESTINATION, "PACS%2F1"),
    ],
)
async def test_what_is_added_is_found_where_it_is_said_to_be_until_it_is_removed(
    api: httpx.AsyncClient, route: str, body: dict[str, object], key: str
) -> None:
    added = await api.post(f"/api/config/{route}", json=body)
    assert added.status_code == 201
    assert added.headers["location"] == f"/api/config/{route}/{key}"
    assert added.json().items() >= body.items()
    one = await api.get(added.headers["location"])
    assert one.json() == added.json()
    assert (await api.get(f"/api/config/{route}")).json() == [added.json()]
    removed = await api.delete(added.headers["location"])
    assert (removed.status_code, removed.json()) == (200, added.json())
    assert (await api.get(added.headers["location"])).status_code == 404
    assert (await api.delete(added.headers["location"])).status_code == 404


async def test_a_clara_ae_title_has_the_shape_of_0_8_and_is_found_by_name_and_by_ae_title(
    api: httpx.AsyncClient,
) -> None:
    await api.post("/api/config/claraaetitle", json={**CLARA, "name": "lungs"})
    by_name, by_ae_title = [(await api.get(f"/api/config/claraaetitle/{key}")).json() for key in ("lungs", "COVIDAET")]
    assert by_name == by_ae_title
    assert by_name == {
        "name": "lungs",
        "aeTitle": "COVIDAET",
        "overwriteSameInstance": False,
        "ignoredSopClasses": [],
        "allowedSources": [],
        "processor": "Nvidia.Clara.DicomAdapter.Server.Processors.AeTitleJobProcessor, Nvidia.Clara.DicomAdapter",
        "processorSettings": {"pipeline-covid": "abc"},
        "interrupted": None,
    }
    assert (await api.delete("/api/config/claraaetitle/COVIDAET")).json() == by_name


@pytest.mark.parametrize(
    ("route", "body", "detail"),
    [
        (
            "claraaetitle",
            {"aeTitle": "SEVENTEEN-LETTERS", "colour": "red", "processorSettings": {"timeout": "soon"}},
            [
                "'SEVENTEEN-LETTERS' is not a valid AE Title (source: ClaraApplicationEntity).",
                (
                    "Unknown field 'colour'; known are: aeTitle, allowedSources, ignoredSopClasses, interrupted, name, "
                    "overwriteSameInstance, processor, processorSettings."
                ),
                "[ERROR] Invalid processor setting 'timeout' specified for AE Title SEVENTEEN-LETTERS.",
                "[ERROR] No pipeline defined for AE Title SEVENTEEN-LETTERS.",
            ],
        ),
        (
            "claraaetitle",
            {"aeTitle": "A", "processor": "Other, Assembly", "processorSettings": {"pipeline-x": "1"}},
            ["Invalid job processor: 'Other, Assembly' is not installed; installed are: ae-title, series."],
        ),
        (
            "sourceaetitle",
            {"aeTitle": "", "hostIp": " "},
            [
                "'' is not a valid AE Title (source: SourceApplicationEntity).",
                "Invalid host name/IP address ' ' specified for .",
            ],
        ),
        (
            "destinationaetitle",
            {"name": "N", "aeTitle": "A", "hostIp": "h", "port": 70000},
            [
                "Invalid port number '70000' specified for DestinationApplicationEntity.",
            ],
        ),
        ("destinationaetitle", ["no object"], ["A JSON object is expected."]),
    ],
)
async def test_everything_wrong_is_told_at_once_in_the_words_of_0_8(
    api: httpx.AsyncClient, route: str, body: object, detail: list[str]
) -> None:
    answer = await api.post(f"/api/config/{route}", json=body)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {"title": "Validation error.", "status": 400, "detail": "\n".join(detail)}


async def test_what_exists_already_is_refused_in_the_words_of_0_8(api: httpx.AsyncClient) -> None:
    bodies = {"claraaetitle": CLARA, "sourceaetitle": SOURCE, "destinationaetitle": DESTINATION}
    details = {}
    for route, body in bodies.items():
        await api.post(f"/api/config/{route}", json=body)
        answer = await api.post(f"/api/config/{route}", json=body)
        assert answer.status_code == 400
        details[route] = answer.json()["detail"]
    assert details == {
        "claraaetitle": "Clara AE Title COVIDAET already exists.",
        "sourceaetitle": "Source with AE Title MYPACS already exists.",
        "destinationaetitle": "Destination with name PACS/1 already exists.",
    }
    upper = await api.post("/api/config/destinationaetitle", json={**DESTINATION, "name": "pacs/1"})
    assert upper.json()["detail"] == "Destination with name pacs/1 already exists."


async def test_a_source_with_several_hosts_is_removed_by_host(api: httpx.AsyncClient) -> None:
    await api.post("/api/config/sourceaetitle", json=SOURCE)
    second = await api.post("/api/config/sourceaetitle", json={**SOURCE, "hostIp": "fe80::1"})
    assert second.headers["location"] == "/api/config/sourceaetitle/MYPACS?hostIp=fe80%3A%3A1"
    which = await api.delete("/api/config/sourceaetitle/MYPACS")
    assert (which.status_code, which.json()["detail"]) == (
        400,
        "Source MYPACS has several hosts, say which: 10.20.30.1, fe80::1.",
    )
    assert (await api.delete(second.headers["location"])).json()["hostIp"] == "fe80::1"
    assert (await api.delete("/api/config/sourceaetitle/MYPACS")).json() == SOURCE


async def test_one_is_replaced_as_a_whole_and_keeps_its_name(api: httpx.AsyncClient) -> None:
    await api.post("/api/config/claraaetitle", json={**CLARA, "name": "lungs", "overwriteSameInstance": True})
    changed = {"aeTitle": "LUNGS", "processorSettings": {"pipeline-lungs": "def", "timeout": "0"}}
    put = await api.put("/api/config/claraaetitle/COVIDAET", json=changed)
    assert put.status_code == 200
    assert put.json().items() >= {**changed, "name": "lungs", "overwriteSameInstance": False}.items()
    assert (await api.get("/api/config/claraaetitle")).json() == [put.json()]
    renamed = await api.put("/api/config/claraaetitle/lungs", json={**changed, "name": "heart"})
    assert renamed.json()["detail"] == (
        "The name of Clara AE Title lungs cannot be changed to 'heart'; add another one, and delete this one."
    )
    await api.post("/api/config/claraaetitle", json=CLARA)
    taken = await api.put("/api/config/claraaetitle/lungs", json=CLARA)
    assert (taken.status_code, taken.json()["detail"]) == (400, "Clara AE Title COVIDAET already exists.")
    assert (await api.put("/api/config/claraaetitle/OTHER", json=CLARA)).status_code == 404


async def test_a_source_moves_to_another_host_and_a_destination_to_another_port(api: httpx.AsyncClient) -> None:
    for host in ("10.20.30.1", "10.20.30.2"):
        await api.post("/api/config/sourceaetitle", json={**SOURCE, "hostIp": host})
    path = "/api/config/sourceaetitle/MYPACS"
    assert (await api.put(path, json={**SOURCE, "hostIp": "10.20.30.3"})).status_code == 400
    moved = await api.put(f"{path}?hostIp=10.20.30.2", json={**SOURCE, "hostIp": "10.20.30.3"})
    assert moved.json()["hostIp"] == "10.20.30.3"
    taken = await api.put(f"{path}?hostIp=10.20.30.3", json=SOURCE)
    assert taken.json()["detail"] == "Source with AE Title MYPACS already exists."
    assert [each["hostIp"] for each in (await api.get("/api/config/sourceaetitle")).json()] == [
        "10.20.30.1",
        "10.20.30.3",
    ]
    await api.post("/api/config/destinationaetitle", json=DESTINATION)
    changed = {key: value for key, value in DESTINATION.items() if key != "name"} | {"port": 11112}
    put = await api.put("/api/config/destinationaetitle/pacs%2F1", json=changed)
    assert put.json().items() >= {**DESTINATION, "port": 11112}.items()


async def test_a_destination_is_found_by_its_ae_title_unless_several_have_it(api: httpx.AsyncClient) -> None:
    await api.post("/api/config/destinationaetitle", json=DESTINATION)
    assert (await api.get("/api/config/destinationaetitle/MYPACSAET")).json()["name"] == "PACS/1"
    await api.post("/api/config/destinationaetitle", json={**DESTINATION, "name": "PACS2"})
    several = await api.get("/api/config/destinationaetitle/MYPACSAET")
    assert (several.status_code, several.json()["detail"]) == (
        400,
        "AE Title MYPACSAET is that of several destinations, say which: PACS/1, PACS2.",
    )


@pytest.mark.parametrize(
    ("content", "status", "detail"),
    [
        (b"{", 400, "The body is no JSON: line 1, column 2: Expecting property name enclosed in double quotes."),
        (b"\xff", 400, "The body is no JSON"),
        (b"[" * 100_000, 400, "The body is no JSON: it is nested too deeply."),
        (b'{"aeTitle": "\\ud800"}', 400, "is not a valid AE Title"),
        (b'"' + b"x" * (1 << 20) + b'"', 413, "A body of at most 1048576 bytes is expected."),
    ],
)
async def test_a_body_that_is_no_configuration_is_told_and_fills_no_memory(
    api: httpx.AsyncClient, content: bytes, status: int, detail: str
) -> None:
    answer = await api.post("/api/config/sourceaetitle", content=content)
    assert answer.status_code == status
    assert detail in answer.json()["detail"]


@pytest.mark.parametrize("key", ["a%0Ab", "%00", "x" * 254])
async def test_what_cannot_be_a_key_is_told_as_such(api: httpx.AsyncClient, key: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        answer = await api.request(method, f"/api/config/sourceaetitle/{key}", json=SOURCE)
        assert (answer.status_code, answer.json()["title"]) == (422, "Validation error.")
