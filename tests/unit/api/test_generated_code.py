"""The checked-in code is what the .proto gives, and the .proto is the contract."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from acns.api import fqdndata_pb2 as pb
from acns.api import generate

# The contract's numbers, written down a second time on purpose: the wire must not move with the .proto.
FIELDS = {
    "PolicyState": {
        "egress_l7_dns_policy": 1,
        "request_id": 2,
        "identity_to_endpoint_mapping": 3,
        "identity_to_prefix_mapping": 4,
    },
    "DNSPolicy": {"source_endpoint_id": 1, "dns_pattern": 2, "dns_servers": 3},
    "DNSServer": {"dns_server_identity": 1, "dns_server_port": 2, "dns_server_proto": 3},
    "IdentityToEndpointMapping": {"identity": 1, "endpoint_info": 2},
    "EndpointInfo": {"id": 1, "ip": 2},
    "IdentityToPrefixMapping": {"identity": 1, "prefix": 2},
    "PolicyStateResponse": {"response": 1, "request_id": 2},
    "FQDNMapping": {
        "fqdn": 1,
        "record_ip": 2,
        "ttl": 3,
        "source_identity": 4,
        "source_ip": 5,
        "response_code": 6,
    },
    "UpdateMappingResponse": {"response": 1},
}


def test_messages_have_the_contracts_fields_under_its_numbers() -> None:
    file = pb.DESCRIPTOR
    found = {
        name: {field.name: field.number for field in message.fields}
        for name, message in file.message_types_by_name.items()
    }
    assert found == FIELDS
    assert file.package == "standalonednsproxy"


def test_the_service_has_the_contracts_methods() -> None:
    service = pb.DESCRIPTOR.services_by_name["FQDNData"]
    shape = {
        method.name: (
            method.input_type.name,
            method.output_type.name,
            method.client_streaming,
            method.server_streaming,
        )
        for method in service.methods
    }
    assert shape == {
        "StreamPolicyState": ("PolicyStateResponse", "PolicyState", True, True),
        "UpdateMappingRequest": ("FQDNMapping", "UpdateMappingResponse", False, False),
    }


def test_response_codes_have_the_contracts_numbers() -> None:
    assert {name.removeprefix("RESPONSE_CODE_"): number for name, number in pb.ResponseCode.items()} == {
        "UNSPECIFIED": 0,
        "NO_ERROR": 1,
        "FORMAT_ERROR": 2,
        "SERVER_FAILURE": 3,
        "NOT_IMPLEMENTED": 4,
        "ERROR_ENDPOINT_NOT_FOUND": 5,
        "ERROR_INVALID_ARGUMENT": 6,
        "REFUSED": 7,
    }


def test_the_checked_in_code_is_what_the_generator_makes(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools makes the code; it comes with the dev extra")
    made = generate.generate(tmp_path)
    assert len(made) == len(generate.OUTPUTS)
    for path in made:
        checked_in = generate.ROOT / path.relative_to(tmp_path)
        assert _without_versions(path.read_text()) == _without_versions(checked_in.read_text()), checked_in


def _without_versions(text: str) -> str:
    """Another patch release of the compiler writes its own number, and nothing else."""
    text = re.sub(r"(?m)^(# Protobuf Python Version:|GRPC_GENERATED_VERSION =).*$", r"\1", text)
    return re.sub(r"(?s)ValidateProtobufRuntimeVersion\(.*?\)", "", text)
