"""The transitions; the rules behind them are in tests/rfc."""

from dataclasses import replace

from cachecases import KEPT, answer, arrive, decide, get, stored
from entrepot.httpcache import Bypass, Discard, Miss, Reason, Store, unconditional


def test_a_miss_passes_the_clients_conditions_on():
    """They are meant for another server when nothing is stored here (RFC 9111 §4.3.2)."""
    request = get(if_none_match='"a"', connection="close", te="trailers")
    decision = decide(request)
    assert decision == Miss(Reason.URI_MISS, get(if_none_match='"a"'))


def test_a_whole_answer_to_a_miss_replaces_what_was_unusable():
    bodiless = stored(size=None, cache_control=KEPT)
    action = arrive(decide(get(), bodiless), get(), answer(cache_control=KEPT))
    assert isinstance(action, Store)
    assert action.replaces == (bodiless,)


def test_nothing_that_was_bypassed_is_stored():
    request = get(range="bytes=0-1")
    assert arrive(decide(request), request, answer(cache_control=KEPT)) == Discard(Reason.RANGE)


def test_other_methods_bypass_with_their_hop_by_hop_fields_removed():
    assert decide(get(method="POST", connection="x", x="1", y="2")) == Bypass(
        Reason.METHOD, get(method="POST", y="2")
    )


def test_an_unsafe_method_invalidates_whatever_the_decision_was():
    request = get(method="DELETE")
    assert arrive(Miss(Reason.URI_MISS, request), request, answer(204)) == Discard(
        Reason.METHOD, invalidates=True
    )


def test_heuristics_are_off_unless_asked_for():
    entry = stored(last_modified="Sun, 06 Nov 1994 08:49:37 GMT")
    assert decide(get(), entry).reason is Reason.NO_FRESHNESS
    assert decide(get(), entry, heuristic=0.1).reason is Reason.FRESH


def test_a_caller_may_ask_for_the_whole_instead_of_passing_conditions_on():
    request = get(if_none_match='"a"')
    decision = replace(decide(request), forward=unconditional(request))
    assert arrive(decision, request, answer(304)) == Discard(Reason.VALIDATOR_MISMATCH)
    assert isinstance(arrive(decision, request, answer(cache_control=KEPT)), Store)
