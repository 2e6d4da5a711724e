"""Good inputs with mutations, for every reader of foreign bytes.

`bench/fuzz.py parsers` goes on from here with atheris.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parser_fuzz import READERS, STARTS

PIECE = st.one_of(
    st.binary(max_size=6),
    st.sampled_from([b"\r\n", b"\n", b"\0", b'"', b"..", b"/", b"%2e", b":", b"@", b"\x80", b"\xdf", b"\xc1", b"null", b"1e999", b"[]", b"{}"]),
)  # fmt: skip


@st.composite
def mutated(draw, starts):
    made = bytearray(draw(st.sampled_from(starts)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(made)))
        made[at : at + draw(st.integers(0, 8))] = draw(PIECE)
    return bytes(made)


@pytest.mark.parametrize("name", READERS)
def test_a_reader_gives_a_value_or_an_error_of_ours_for_whatever_bytes(name):
    @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
    @given(mutated(STARTS[name]))
    def read(raw):
        READERS[name](raw)

    read()


def test_a_map_as_a_key_in_pips_msgpack_is_damage():
    """Found by atheris: the unpacker raises TypeError for it."""
    READERS["pip-entry"](b"cc=4,\x81\x80\x01")
