"""What crosses the bridge's border, as files in `schemas/`: `python -m aitems_local.schemas` writes them.

JSON Schemas of every document, an OpenAPI document of the HTTP door and an AsyncAPI document of the event bus, all of
the same models and tables. `examples.json` is not written here: it is what a deployed bridge said, and
`tests/test_openapi.py` records it.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from aitems_local import asyncapi, bodies, openapi

FOLDER = Path(__file__).parents[2] / "schemas"
EXAMPLES = FOLDER / "examples.json"

Json = dict[str, Any]


def files() -> dict[str, str]:
    """Return every file's text by its name; the same text each time."""
    said = json.loads(EXAMPLES.read_text("utf-8"))
    made = {name: json_text(schema) for name, schema in bodies.schemas().items()}
    made["openapi.yaml"] = yaml_text(openapi.document(said["http"]))
    made["asyncapi.yaml"] = yaml_text(asyncapi.document(said["events"]))
    return made


def json_text(document: Json) -> str:
    """Return a document as a JSON file has it."""
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def yaml_text(document: Json) -> str:
    """Return a document as a YAML file has it: members in their order, nothing by reference to another place."""
    head = "# Made by `python -m aitems_local.schemas`: change it there.\n"
    return head + yaml.dump(document, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401  # anything that YAML can say
        """See the base class: what stands twice is written twice."""
        del data
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Plain.add_representer(str, _text)


def main() -> None:
    """Write the files anew."""
    for name, text in files().items():
        (FOLDER / name).write_text(text, "utf-8")
        print(f"schemas/{name}")


if __name__ == "__main__":
    main()
