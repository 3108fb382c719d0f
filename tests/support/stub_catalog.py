"""Unity Catalog's registered models by their REST API, with the rules by which it differs from MLflow's own registry.

Names have three levels, there are no stages, a version is not there before its files are uploaded, a model without a
signature is refused, tags have limits. Files go through the Files API, which is one of the ways that MLflow's client
knows; the others are temporary credentials of a cloud's storage and presigned addresses.
"""

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote

import yaml

MODELS = "/api/2.0/mlflow/unity-catalog/"
FILES = "/api/2.0/fs/files"
FOLDERS = "/api/2.0/fs/directories"
LONGEST_TAG = 1000
FORBIDDEN_IN_KEYS = set(".,-=/:")

Answer = tuple[int, Any]


class Refused(Exception):  # noqa: N818
    """What the catalog says no to."""

    def __init__(self, status: int, code: str, message: str) -> None:
        """Keep what is answered."""
        super().__init__(message)
        self.answer: Answer = (status, {"error_code": code, "message": message})


def invalid(message: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, "INVALID_PARAMETER_VALUE", message)


def missing(what: str) -> Refused:
    return Refused(HTTPStatus.NOT_FOUND, "RESOURCE_DOES_NOT_EXIST", f"{what} does not exist.")


def check_levels(name: str) -> None:
    if len(name.split(".")) != 3:
        raise invalid(f"Model name '{name}' must specify all three levels: catalog.schema.model.")


@dataclass
class Model:
    """A registered model."""

    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)  # by version


class UnityCatalog:
    """Models by their full name, and their versions' files; `may_create`: whether the caller has CREATE MODEL."""

    def __init__(self) -> None:
        """Start empty."""
        self.models: dict[str, Model] = {}
        self.files: dict[str, bytes] = {}
        self.may_create = True

    def answer(self, method: str, path: str, query: str, body: bytes) -> Answer | None:
        """Answer a request with status and content (bytes, or what becomes JSON); None: it is not the catalog's."""
        try:
            if path.startswith(MODELS):
                asked = dict(parse_qsl(query)) | (json.loads(body) if body else {})
                return HTTPStatus.OK, self._models(method, path.removeprefix(MODELS), asked)
            if path.startswith(FILES):
                return self._file(method, unquote(path.removeprefix(FILES)), body)
            if path.startswith(FOLDERS):
                return self._folder(unquote(path.removeprefix(FOLDERS)))
        except Refused as refused:
            return refused.answer
        return None

    def _models(self, method: str, path: str, asked: dict[str, Any]) -> dict[str, Any]:
        answer_by = self._version_api if path.startswith("model-versions/") else self._model_api
        answer = answer_by(method, path, asked)
        if answer is None:
            raise Refused(HTTPStatus.NOT_FOUND, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {path}'")
        return answer

    def _model_api(self, method: str, path: str, asked: dict[str, Any]) -> dict[str, Any] | None:
        match method, path:
            case "POST", "registered-models/create":
                return self._create_model(asked["name"])
            case "GET", "registered-models/get":
                self._model(asked["name"])
                return {"registered_model": {"name": asked["name"]}}
            case "POST", "registered-models/alias":
                if self._version(asked)["status"] != "READY":
                    raise invalid("An alias needs a version that is ready.")
                self._model(asked["name"]).aliases[asked["alias"]] = asked["version"]
                return {}
            case "GET", "registered-models/alias":
                version = self._model(asked["name"]).aliases.get(asked["alias"])
                if version is None:
                    raise missing(f"Alias '{asked['alias']}' of model '{asked['name']}'")
                return {"model_version": self._described({**asked, "version": version})}
            case "GET", "registered-models:is-databricks-sdk-models-artifact-repository-enabled":
                return {"is_databricks_sdk_models_artifact_repository_enabled": True}
        return None

    def _version_api(self, method: str, path: str, asked: dict[str, Any]) -> dict[str, Any] | None:
        match method, path.removeprefix("model-versions/"):
            case "POST", "create":
                return self._create_version(asked)
            case "POST", "finalize":
                self._finalize(asked)
                return {"model_version": self._described(asked)}
            case "GET", "get":
                return {"model_version": self._described(asked)}
            case "DELETE", "delete":
                self._version(asked)
                del self._model(asked["name"]).versions[asked["version"]]
                return {}
            case "POST", "set-tag":
                self._tag(asked)
                return {}
            case "GET", "get-download-uri":
                return {"artifact_uri": self._version(asked)["storage_location"]}
            case "POST", "emit-lineage":
                return {}
        return None

    def _create_model(self, name: str) -> dict[str, Any]:
        check_levels(name)
        if name in self.models:
            raise Refused(HTTPStatus.BAD_REQUEST, "RESOURCE_ALREADY_EXISTS", f"Model '{name}' already exists.")
        if not self.may_create:
            schema = name.rpartition(".")[0]
            message = f"User does not have CREATE MODEL on Schema '{schema}'."
            raise Refused(HTTPStatus.FORBIDDEN, "PERMISSION_DENIED", message)
        self.models[name] = Model()
        return {"registered_model": {"name": name}}

    def _create_version(self, asked: dict[str, Any]) -> dict[str, Any]:
        model = self._model(asked["name"])
        number = str(1 + max(map(int, model.versions), default=0))
        model.versions[number] = {
            "source": asked["source"],
            "status": "PENDING_REGISTRATION",
            "storage_location": f"/Models/{asked['name'].replace('.', '/')}/{number}",
        }
        return {"model_version": self._described({**asked, "version": number})}

    def _finalize(self, asked: dict[str, Any]) -> None:
        version = self._version(asked)
        description = self.files.get(f"{version['storage_location']}/MLmodel")
        if description is None or "signature" not in yaml.safe_load(description):
            version["status"] = "FAILED_REGISTRATION"
            raise invalid("The version has no file MLmodel with a signature.")
        version["status"] = "READY"

    def _tag(self, asked: dict[str, Any]) -> None:
        self._version(asked)
        if FORBIDDEN_IN_KEYS & set(asked["key"]) or len(asked["value"]) > LONGEST_TAG:
            raise invalid(f"Tag '{asked['key']}' has a forbidden character or a value above {LONGEST_TAG} characters.")
        self._model(asked["name"]).tags.setdefault(asked["version"], {})[asked["key"]] = asked["value"]

    def _model(self, name: str) -> Model:
        check_levels(name)
        if name not in self.models:
            raise missing(f"Model '{name}'")
        return self.models[name]

    def _version(self, asked: dict[str, Any]) -> dict[str, Any]:
        version = self._model(asked["name"]).versions.get(asked["version"])
        if version is None:
            raise missing(f"Version {asked['version']} of model '{asked['name']}'")
        return version

    def _described(self, asked: dict[str, Any]) -> dict[str, Any]:
        model, number = self._model(asked["name"]), asked["version"]
        return {
            "name": asked["name"],
            "version": number,
            **self._version(asked),
            "aliases": [{"alias": alias, "version": v} for alias, v in model.aliases.items() if v == number],
            "tags": [{"key": key, "value": value} for key, value in model.tags.get(number, {}).items()],
        }

    def _file(self, method: str, path: str, body: bytes) -> Answer:
        if method == "PUT":
            self.files[path] = body
            return HTTPStatus.NO_CONTENT, b""
        if path not in self.files:
            raise Refused(HTTPStatus.NOT_FOUND, "NOT_FOUND", f"No file {path}")
        return HTTPStatus.OK, self.files[path]

    def _folder(self, path: str) -> Answer:
        below = {name.removeprefix(f"{path}/"): name for name in self.files if name.startswith(f"{path}/")}
        if not below:
            raise Refused(HTTPStatus.NOT_FOUND, "NOT_FOUND", f"No folder {path}")
        folders = sorted({name.partition("/")[0] for name in below if "/" in name})
        contents = [{"path": f"{path}/{name}", "name": name, "is_directory": True} for name in folders]
        contents += [
            {"path": full, "name": name, "is_directory": False, "file_size": len(self.files[full])}
            for name, full in sorted(below.items())
            if "/" not in name
        ]
        return HTTPStatus.OK, {"contents": contents}
